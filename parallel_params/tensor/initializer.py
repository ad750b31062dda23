"""Initial values as laws: any interval of a tensor alone equals the slice of the whole.

`initializer(init, shape, dtype)` gives a lazy tensor: shape and dtype are known, values
are made when somebody looks, or for one interval by `fill`. The names, defaults and
laws are MindSpore's; the numbers are ours (`tensor/random.py`). Which parameter gets
which law is not decided here.
"""

import math
import threading
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor import random
from parallel_params.tensor.dtype import DType
from parallel_params.tensor.fan_laws import (
    HeNormal,
    HeUniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)
from parallel_params.tensor.laws import (
    Constant,
    Identity,
    Initializer,
    Normal,
    One,
    TruncatedNormal,
    Uniform,
    Zero,
)
from parallel_params.tensor.matrix_laws import Dirac, Orthogonal, Sparse
from parallel_params.tensor.tape import Array, Node
from parallel_params.tensor.tensor import Tensor

__all__ = [
    "initializer",
    "lazy_init",
    "Initializer",
    "LazyTensor",
    "Zero",
    "One",
    "Constant",
    "Identity",
    "Normal",
    "Uniform",
    "TruncatedNormal",
    "XavierUniform",
    "XavierNormal",
    "HeUniform",
    "HeNormal",
    "VarianceScaling",
    "Orthogonal",
    "Sparse",
    "Dirac",
]

Init: TypeAlias = "Initializer | Tensor | str | bool | int | float"

_ALIASES: dict[str, type[Initializer]] = {
    "zeros": Zero,
    "zero": Zero,
    "ones": One,
    "one": One,
    "normal": Normal,
    "uniform": Uniform,
    "truncatednormal": TruncatedNormal,
    "xavier_uniform": XavierUniform,
    "xavieruniform": XavierUniform,
    "xavier_normal": XavierNormal,
    "xaviernormal": XavierNormal,
    "he_uniform": HeUniform,
    "heuniform": HeUniform,
    "he_normal": HeNormal,
    "henormal": HeNormal,
    "identity": Identity,
    "variancescaling": VarianceScaling,
    "orthogonal": Orthogonal,
    "sparse": Sparse,
    "dirac": Dirac,
}


class _State(threading.local):
    """Whether parameters made on this thread wait for their values."""

    is_lazy = False


_state = _State()


class lazy_init:  # noqa: N801 - used like a function: `with lazy_init():`
    """Let parameters made in this block from an `initializer` stay without memory.

    They get their values from `init_data()`, at the first look, or straight into an
    arena; the values are those that they would have got at once.
    """

    def __enter__(self) -> None:
        self._outer = _state.is_lazy
        _state.is_lazy = True

    def __exit__(self, *_: object) -> None:
        _state.is_lazy = self._outer


def is_lazy() -> bool:
    """Return whether a `lazy_init` block is open on this thread."""
    return _state.is_lazy


class LazyTensor(Tensor):
    """A tensor whose values are made when somebody first looks at them.

    Its stream is taken at once, so the values do not depend on when that is.

    Attributes:
        init: the law of its values.
    """

    __slots__ = ("_dtype", "_shape", "_stream", "init")

    # Neither is set before the values are made: see `__getattr__`.
    _array: Array
    _node: Node | None

    def __init__(self, init: Initializer, shape: tuple[int, ...], dtype: DType) -> None:
        init.check(shape)
        self.init = init
        self._shape = shape
        self._dtype = dtype
        self._stream = random.next_stream() if init.is_random else None
        self._node = None

    def __getattr__(self, name: str) -> Array:
        # Only called where ordinary lookup fails, so a full tensor pays nothing.
        if name != "_array":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        values = np.empty(self._shape, self._dtype.numpy)
        self.fill(0, self.size, out=values.reshape(-1))
        self._array = values
        return values

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every dim."""
        return self._shape

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self._dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self._shape)

    @property
    def has_init(self) -> bool:
        """Whether this tensor was made from a law."""
        return True

    def init_data(self) -> Tensor:
        """Return the values as an ordinary tensor; made once, then shared."""
        return Tensor.wrap(self._array)

    def fill(self, start: int, stop: int, *, out: NDArray[np.generic]) -> None:
        """Write elements [start, stop), in C order, into `out`; nothing else is made.

        Args:
            start: first element of the interval.
            stop: one past its last.
            out: [stop - start], of any dtype; values are rounded to it.
        """
        self._draw(self._shape, start, stop, out)

    def _draw(
        self, shape: tuple[int, ...], start: int, stop: int, out: NDArray[np.generic]
    ) -> None:
        """Write elements [start, stop) of a whole tensor of this shape into `out`."""
        step = random.BLOCK if self.init.is_local else max(stop - start, 1)
        for begin in range(start, stop, step):
            end = min(begin + step, stop)
            block = self.init.values(shape, begin, end, self._stream)
            out[begin - start : end - start] = block


def initializer(
    init: Init, shape: Sequence[int] | int | None = None, dtype: DType = dtypes.float32
) -> Tensor:
    """Return a tensor of the given law, lazily.

    Args:
        init: an `Initializer`, the name of one in any case, a number (a constant), or a
            tensor, which is returned after a look at its shape.
        shape: positive lengths; may be left out for a tensor.
        dtype: element type; a tensor keeps its own.

    Raises:
        ValueError: unknown name; a length that is no positive int; a shape that the law
            cannot fill, or that is not the tensor's.
        TypeError: `init` or `dtype` is of another type; or the law needs an argument,
            so its name alone ("sparse") will not do.
    """
    if not isinstance(dtype, DType):
        raise TypeError(f"dtype is one of the package's types, not {dtype!r}")
    if isinstance(init, Tensor):
        lengths = init.shape if shape is None else checked_shape(shape)
        if lengths != init.shape:
            raise ValueError(f"init is of shape {init.shape}, expected {lengths}")
        return init
    return LazyTensor(as_initializer(init), checked_shape(shape), dtype)


def as_initializer(init: "Initializer | str | bool | int | float") -> Initializer:
    """Return the law that a name, a number or a law stands for.

    Raises:
        ValueError: unknown name.
        TypeError: neither of the three.
    """
    if isinstance(init, Initializer):
        return init
    if isinstance(init, str):
        try:
            return _ALIASES[init.lower()]()
        except KeyError:
            raise ValueError(
                f"no initializer is called {init!r}; there are {', '.join(_ALIASES)}"
            ) from None
    if isinstance(init, int | float):
        return Constant(init)
    raise TypeError(
        f"init is an Initializer, the name of one, a number or a Tensor, "
        f"not {type(init).__name__}"
    )


def checked_shape(shape: Sequence[int] | int | None) -> tuple[int, ...]:
    """Return `shape` as a tuple of positive ints.

    Raises:
        ValueError: there is none, or one of its lengths is no positive int.
    """
    lengths = (shape,) if isinstance(shape, int) else shape
    if not isinstance(lengths, list | tuple) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in lengths
    ):
        raise ValueError(f"a shape is a list of positive ints, not {shape!r}")
    return tuple(lengths)
