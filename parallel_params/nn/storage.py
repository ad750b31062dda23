"""Values that stay where they are: the storage of a parameter.

It may be a view of an arena that ranks share: nothing moves it unasked. A lazy one has
no storage until somebody looks. The rest of a parameter is in `nn/parameter.py`.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from parallel_params.nn.assigned import as_type_of, check_layout
from parallel_params.nn.settings import LENT, Agree, Settings, checked_bool
from parallel_params.plan.interval import Interval
from parallel_params.tensor import tape
from parallel_params.tensor.dtype import DType, dtype_of
from parallel_params.tensor.initializer import LazyTensor
from parallel_params.tensor.ops.apply import note_write
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


# What the runtime sets is no setting of the user's.
_set = object.__setattr__


def _slots_filled(parameter: "Storage") -> set[str]:
    try:
        object.__getattribute__(parameter, "_array")
    except AttributeError:
        return set()
    return {"_array"}


class Storage(Settings, Tensor):
    """The side of a parameter that holds numbers; `Parameter` is its only subclass."""

    init_mode: LazyTensor | None = None
    # Of a parameter whose weights are cut over the nodes: who gathers them, and what
    # they look like meanwhile.
    _fetch: "Callable[[Storage], Array] | None" = None
    _outline: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None
    # Of a parameter whose weights several ranks share: who writes them.
    _write: "Callable[[Storage, Array], None] | None" = None

    def __getattr__(self, name: str) -> Array:
        # Only called where ordinary lookup fails: for the array of a parameter that
        # waits for its values or lies in pieces, and for what does not exist.
        if name == "_array" and self.init_mode is not None:
            return self.init_data()._array
        if name == "_array" and self._fetch is not None:
            return self._fetch(self)
        self._refuse_near_miss(name)
        raise AttributeError(f"a Parameter has no attribute {name!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every dim, known before the values are."""
        if self._outline is not None:
            return self._outline[0]
        lazy = self.init_mode
        return self._array.shape if lazy is None else lazy.shape

    @property
    def dtype(self) -> DType:
        """The element type, known before the values are."""
        if self._outline is not None:
            return dtype_of(self._outline[1])
        lazy = self.init_mode
        return dtype_of(self._array.dtype) if lazy is None else lazy.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """The number of dims."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """The bytes of one element."""
        return self.dtype.numpy.itemsize

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self.size * self.itemsize

    @property
    def has_init(self) -> bool:
        """Whether the parameter still waits for its values."""
        return self.init_mode is not None

    def init_data(
        self, layout: tuple[object, ...] | None = None, set_sliced: bool = False
    ) -> "Self":
        """Make the values of a lazy parameter; otherwise do nothing.

        Args:
            layout: MindSpore's, of six fields or more. The plan cuts parameters here,
                so a layout whose slice is not the whole parameter is refused.
            set_sliced: mark the parameter as `sliced`.

        Raises:
            TypeError: the layout is no tuple.
            ValueError: it is shorter than six, or asks for a cut.
        """
        lazy = self.init_mode
        if lazy is None:
            return self
        if layout is not None:
            check_layout(layout, lazy.shape)
        self.rebind(np.empty(lazy.shape, lazy.dtype.numpy))
        self._is_bound = False
        if set_sliced:
            self.sliced = True
        return self

    def rebind(self, view: Array, parts: Sequence[Interval] | None = None) -> None:
        """Make `view` the storage, after writing the values there.

        For the runtime alone, which lays parameters side by side in an arena. Arrays
        that `asnumpy()` gave before are no longer the parameter's.

        Args:
            view: of the parameter's shape and dtype.
            parts: the elements, in C order, that are written here; the others are
                written by other ranks of the node, and nobody may write through this
                parameter any more. By default all, and this rank alone has them.

        Raises:
            RuntimeError: a manager holds the parameter already.
            ValueError: its shape or dtype is another.
        """
        if self._is_bound:
            raise RuntimeError(
                f"{self} lives in the arena of a ParameterManager already; close that "
                "one first"
            )
        if view.shape != self.shape or view.dtype != self.dtype.numpy:
            raise ValueError(
                f"{self} cannot live in an array of shape {view.shape} and dtype "
                f"{view.dtype}"
            )
        flat = view.reshape(-1)
        assert np.shares_memory(flat, view) or not view.size, "view has gaps"
        for part in [Interval(0, view.size)] if parts is None else parts:
            self.copy_part(part.start, flat[part.as_slice()])
        self.init_mode = None
        if parts is not None:
            view = view[...]
            view.flags.writeable = False
        self._array = view
        self._is_bound = True

    def copy_part(self, start: int, out: Array) -> None:
        """Write the elements from `start` on, in C order, into `out` [n].

        Of a lazy parameter only these are made.
        """
        lazy = self.init_mode
        if lazy is not None:
            lazy.fill(start, start + out.size, out=out)
        else:
            np.copyto(out, self._array.reshape(-1)[start : start + out.size])

    def unshard(self, view: Array) -> None:
        """Let the gathered weights in `view` be seen; nobody may write them here."""
        view.flags.writeable = False
        _set(self, "_array", view)
        _set(self, "_outline", None)

    def reshard(self, fetch: "Callable[[Storage], Array]") -> None:
        """Forget the whole weights; `fetch` gathers them when somebody looks."""
        if self._outline is None:
            _set(self, "_outline", (self.shape, self.dtype.numpy))
        self.init_mode = None
        if "_array" in _slots_filled(self):
            object.__delattr__(self, "_array")
        _set(self, "_fetch", fetch)
        self._is_bound = True

    def watch(self, on_edit: "Callable[[], None]", agree: Agree) -> None:
        """Have the manager told of flags; `agree` asks its ranks before all write."""
        _set(self, "_on_edit", on_edit)
        _set(self, "_agree", agree)

    def share(self, write: "Callable[[Storage, Array], None]") -> None:
        """Leave writing values to `write`, which knows who else has them."""
        _set(self, "_write", write)

    @property
    def is_managed(self) -> bool:
        """Whether the storage lies in the arena of a ParameterManager."""
        return self._is_bound

    def release(self) -> None:
        """End what `rebind` began: the storage stays, but nobody depends on it."""
        self._is_bound = False
        for name in LENT:
            _set(self, name, None)

    def house(self, view: Array, *, is_shared: bool) -> None:
        """Take a view of an arena as storage; read-only if others have it, too."""
        if is_shared:
            view.flags.writeable = False
        self.settle(view)
        self._is_bound = True

    def settle(self, array: Array) -> None:
        """Take `array` as storage, with the values in it."""
        _set(self, "_outline", None)
        _set(self, "_array", array)

    def set_data(
        self, data: "Tensor | bool | int | float", slice_shape: bool = False
    ) -> "Self":
        """Copy `data` into the storage; name and flags stay.

        Args:
            data: of this shape, and of an element type that this one can hold.
            slice_shape: take over the shape of `data`, which needs storage of its own.

        Raises:
            TypeError: `data` is neither a Tensor nor a number, or of a wider type.
            ValueError: it is of another shape and `slice_shape` is False.
            RuntimeError: `slice_shape` asks to move a parameter that lives in an arena.
        """
        checked_bool("slice_shape", slice_shape)
        source = as_type_of(self, data) if slice_shape else self.check_data(data)
        if source.shape != self.shape:
            self._move(source.astype(self.dtype.numpy))
        else:
            if self.init_mode is not None:
                self._array = np.empty(self.shape, self.dtype.numpy)
                self.init_mode = None
            note_write(self)
            if self._write is not None:
                self._write(self, source)
            else:
                np.copyto(self._array, source, casting="unsafe")
        self.sliced = slice_shape
        return self

    def check_data(self, data: object) -> Array:
        """Return what `set_data(data)` would copy, or raise as it would."""
        source = as_type_of(self, data)
        if source.shape != self.shape:
            raise ValueError(
                f"{self} got data of shape {source.shape}; pass slice_shape=True to "
                "change the shape"
            )
        return source

    def _move(self, array: Array) -> None:
        """Make an array of another shape or type the storage."""
        if self._is_bound:
            raise RuntimeError(
                f"{self} lives in the arena of a ParameterManager, so its shape and "
                "type are fixed; close the manager first"
            )
        self._check_not_in_frame()
        self._array = array
        self.init_mode = None
        self._renew_leaf()

    def assign_value(self, value: Tensor) -> "Self":
        """Copy a tensor into the storage, as `set_data` does."""
        if not isinstance(value, Tensor):
            raise TypeError(f"expected a Tensor, not {type(value).__name__}")
        return self.set_data(value)

    def set_dtype(self, dtype: DType) -> DType:
        """Convert the values to `dtype`, in new storage; return it."""
        if not isinstance(dtype, DType):
            raise TypeError(f"dtype is one of the package's types, not {dtype!r}")
        if dtype.numpy != self.dtype.numpy:
            self._move(self._array.astype(dtype.numpy))
        return dtype

    def _renew_leaf(self) -> None:
        """Give the parameter a fresh permanent leaf if it requires a gradient."""
        is_leaf = self._requires_grad and self.dtype.is_float
        self._node = tape.AccumulatorLeaf() if is_leaf else None

    def _check_not_in_frame(self) -> None:
        """Raise where the frame would put back the old leaf when it is left."""
        if self._node is not None and not isinstance(self._node, tape.AccumulatorLeaf):
            raise RuntimeError(
                f"{self} is being differentiated: change requires_grad, its type or "
                "its shape outside of the function that value_and_grad runs"
            )
