"""What a parameter can be made of, and what can be written into it.

Everything here looks at values and types only; the parameter does the writing.
"""

from typing import Protocol

import numpy as np

from parallel_params.tensor.dtype import DType, promote, promote_scalar
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor, as_array

_INT32 = np.iinfo(np.int32)
_LAYOUT_FIELDS = 6


class Typed(Protocol):
    """What is written into; it prints itself for the error."""

    @property
    def dtype(self) -> DType:
        """The element type that values must fit."""


def start_value(data: object) -> Array:
    """Return a fresh array for `Parameter(data)`: ints are int32, floats float32.

    Raises:
        TypeError: `data` is no Tensor, ndarray, list, int or float.
        ValueError: it is a bool, or has several dims but no elements.
        OverflowError: it is an int that int32 cannot hold.
    """
    if isinstance(data, bool):
        raise ValueError("a parameter is not made of a single bool; pass Tensor(True)")
    if isinstance(data, float):
        return np.array(data, np.float32)
    if isinstance(data, int):
        if not _INT32.min <= data <= _INT32.max:
            raise OverflowError(
                f"a parameter made of an int is int32, which cannot hold {data}; "
                "pass Tensor(...), which is int64"
            )
        return np.array(data, np.int32)
    if not isinstance(data, Tensor | np.ndarray | list):
        raise TypeError(
            f"a parameter is made of a Tensor, ndarray, list, int or float, not of "
            f"{type(data).__name__}"
        )
    array = as_array(data)
    if array.size == 0 and array.ndim != 1:
        raise ValueError(f"a parameter of shape {array.shape} has no elements")
    return array


def as_type_of(target: Typed, data: object) -> Array:
    """Return `data` as an array that casts to the type of `target` without narrowing.

    Raises:
        TypeError: `data` is neither a Tensor nor a number, or of a wider type.
    """
    own = target.dtype.numpy
    if isinstance(data, Tensor):
        array: Array = data._array
        given, common = str(data.dtype), promote(array.dtype, own)
    elif isinstance(data, bool | int | float):
        kind = next(k for k in (bool, int, float) if isinstance(data, k))
        given, common = kind.__name__, promote_scalar(own, kind)
        array = np.asarray(data, common)
    else:
        raise TypeError(
            f"{target} is set to a Tensor or a number, not to {type(data).__name__}; "
            "wrap it in Tensor(...)"
        )
    if common != own:
        raise TypeError(
            f"{target} cannot hold {given} without loss; convert with "
            f".astype({target.dtype!r}) first"
        )
    return array


def check_layout(layout: object, shape: tuple[int, ...]) -> None:
    """Raise if `layout` is not one that leaves a parameter of this shape whole."""
    if not isinstance(layout, tuple):
        raise TypeError(f"a layout is a tuple, not {type(layout).__name__}")
    if len(layout) < _LAYOUT_FIELDS:
        raise ValueError(
            f"a layout has {_LAYOUT_FIELDS} fields or more, not {len(layout)}"
        )
    if tuple(layout[2]) != shape:
        raise ValueError(
            f"this layout cuts a parameter of shape {shape} to {tuple(layout[2])}; the "
            "plan does that here, so leave the layout out"
        )
