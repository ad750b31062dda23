"""A NumPy array with a place on the tape.

`Tensor` has MindSpore's names and printing; PyTorch's `backward`, `grad`, `detach` and
`numpy` stand beside them. The operators live in `tensor/ops/`, which need this class;
so `tensor/methods.py` hangs them on it, and `tensor/signatures.py` says how they are
called.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from parallel_params.tensor import tape
from parallel_params.tensor.ambient import sweep_ambient
from parallel_params.tensor.dtype import DType, dtype_of
from parallel_params.tensor.printing import representation
from parallel_params.tensor.signatures import Operators
from parallel_params.tensor.tape import Array

if TYPE_CHECKING:
    from typing_extensions import Self

Scalar: TypeAlias = bool | int | float


class Tensor(Operators):
    """An n-dimensional array which operators on the tape can read.

    Args:
        input_data: an ndarray, Tensor, number, or nested lists or tuples of numbers;
            copied.
        dtype: one of the package's element types; explicit types truncate. By default
            ints are int64, floats float32, and arrays keep what they have.

    Raises:
        TypeError: `input_data` is None, text, ragged, or of a type no tensor can hold;
            or `dtype` is not one of the package's element types.
    """

    __slots__ = ("__weakref__", "_array", "_is_read", "_node")

    # Above NumPy's scalars and below its arrays: np.float64(2) * tensor is a tensor on
    # the tape, array * tensor an array, visibly off it.
    __array_priority__ = -1.0

    _array: Array
    _is_read: bool  # whether the tape may have saved the values; unset for no
    _node: tape.Node | None

    def __init__(self, input_data: object, dtype: DType | None = None) -> None:
        if dtype is not None and not isinstance(dtype, DType):
            raise TypeError(
                f"dtype must be one of parallel_params' types, such as "
                f"parallel_params.float32, not {dtype!r}"
            )
        self._array = as_array(input_data, dtype)
        self._node = None

    @classmethod
    def wrap(cls, array: Array) -> "Self":
        """Return a tensor over `array` itself, without a copy."""
        tensor = cls.__new__(cls)
        tensor._array = array
        tensor._node = None
        return tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every dim."""
        return self._array.shape

    @property
    def dtype(self) -> DType:
        """The element type."""
        return dtype_of(self._array.dtype)

    @property
    def ndim(self) -> int:
        """The number of dims."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def itemsize(self) -> int:
        """The bytes of one element."""
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self._array.nbytes

    def asnumpy(self) -> Array:
        """Return the array itself: a writeable view, not a copy."""
        return self._array

    def numpy(self) -> Array:
        """Return the array itself, as `asnumpy` does (PyTorch's name for it)."""
        return self._array

    def item(self) -> Scalar:
        """Return the only element as a Python number.

        Raises:
            ValueError: the tensor has more than one element, or none.
        """
        number: Scalar = self._array.item()
        return number

    def tolist(self) -> object:
        """Return the elements as nested Python lists."""
        return self._array.tolist()

    def detach(self) -> "Tensor":
        """Return the same values as a constant; memory is shared."""
        return Tensor.wrap(self._array)

    @property
    def requires_grad(self) -> bool:
        """Whether `backward()` accumulates a gradient here."""
        return isinstance(self._node, tape.AccumulatorLeaf)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> "Self":
        """Ask `backward()` to accumulate a gradient here (PyTorch's habit).

        Raises:
            TypeError: the elements are not floating point.
        """
        if not requires_grad:
            self._node = None
        elif not self.requires_grad:
            if not self.dtype.is_float:
                raise TypeError(
                    f"only floating-point tensors can require a gradient, not "
                    f"{self.dtype}"
                )
            self._node = tape.AccumulatorLeaf()
        return self

    @property
    def grad(self) -> "Tensor | None":
        """The gradient accumulated by `backward()`, or None."""
        node = self._node
        if not isinstance(node, tape.AccumulatorLeaf) or node.grad is None:
            return None
        return Tensor.wrap(node.grad)

    @grad.setter
    def grad(self, value: "Tensor | None") -> None:
        node = self._node
        if not isinstance(node, tape.AccumulatorLeaf):
            raise AttributeError("this tensor does not require a gradient")
        node.grad = None if value is None else value._array

    def backward(self, gradient: "Tensor | None" = None) -> None:
        """Accumulate the gradient of this tensor into all leaves that require one.

        Args:
            gradient: of this tensor's shape; may be left out for a single element.

        Raises:
            RuntimeError: nothing that led here requires a gradient, or this computation
                has been swept before, or the tensor belongs to an open
                `value_and_grad`, or it has several elements and no `gradient` is given.
        """
        node = self._node
        if node is None or node.ordinal == tape.DEAD:
            raise RuntimeError(
                "backward() has nothing to do: no tensor that led to this one requires "
                "a gradient; call requires_grad_() on the leaves first"
            )
        if gradient is None and self.size != 1:
            raise RuntimeError(
                f"backward() of a tensor of shape {self.shape} needs its gradient; "
                "reduce it to a single number, or pass gradient="
            )
        if gradient is not None and gradient.shape != self.shape:
            raise RuntimeError(
                f"backward() of a tensor of shape {self.shape} got a gradient of shape "
                f"{gradient.shape}"
            )
        seed = np.ones_like(self._array) if gradient is None else gradient._array
        sweep_ambient(node, seed)

    def __array__(
        self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None
    ) -> Array:
        if copy:
            return np.array(self._array, dtype=dtype)
        return np.asarray(self._array, dtype=dtype)

    def __dlpack__(self, **options: Any) -> object:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def __len__(self) -> int:
        return len(self._array)

    def __bool__(self) -> bool:
        return bool(self._array)

    def __int__(self) -> int:
        return int(self._array.item())

    def __float__(self) -> float:
        return float(self._array.item())

    def __index__(self) -> int:
        return self._array.__index__()

    def __hash__(self) -> int:
        return id(self)

    def __str__(self) -> str:
        return str(self._array)

    def __repr__(self) -> str:
        return representation(self._array)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Tensor, (self._array,))


def as_array(data: object, dtype: DType | None = None) -> Array:
    """Copy `data` into a new array of `dtype`, or of the type MindSpore would infer."""
    if isinstance(data, Tensor):
        data = data._array
    if isinstance(data, np.ndarray | np.generic):
        array = np.array(data, order="C")
        dtype_of(array.dtype)
    elif isinstance(data, bool | int | float | complex | list | tuple | str):
        array = _infer(data)
    else:
        raise TypeError(
            f"a tensor is made of an ndarray, Tensor, number, list or tuple, not of "
            f"{type(data).__name__}"
        )
    return array if dtype is None else array.astype(dtype.numpy)


def _infer(data: object) -> Array:
    try:
        array = np.array(data)
    except ValueError as error:
        raise TypeError(f"the lists are ragged: {error}") from None
    if array.dtype == object:
        raise TypeError(
            f"a tensor holds numbers; an integer beyond 64 bits, or an element that is "
            f"none, was given: {data!r:.80}"
        )
    if array.dtype == np.float64 or array.size == 0:
        return array.astype(np.float32)
    return array
