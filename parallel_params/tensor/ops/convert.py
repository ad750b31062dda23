"""From one tensor to another of the same numbers: astype, stop_gradient, assign."""

import numpy as np

from parallel_params.tensor import tape
from parallel_params.tensor.dtype import DType, promote
from parallel_params.tensor.ops.apply import (
    Operand,
    as_operand,
    cast,
    note_write,
    result,
)
from parallel_params.tensor.tensor import Tensor


def astype(x: Operand, dtype: DType) -> Tensor:
    """Return the tensor with elements of `dtype`; the gradient comes back as it was.

    Raises:
        TypeError: `dtype` is not one of the package's element types.
    """
    if not isinstance(dtype, DType):
        raise TypeError(
            f"astype: dtype must be one of parallel_params' types, such as "
            f"parallel_params.float32, not {dtype!r}"
        )
    return cast(as_operand(x, "astype"), dtype.numpy)


def copy(x: Operand) -> Tensor:
    """Return the same values in memory of their own; on the tape."""
    a = as_operand(x, "copy")
    return result(a._array.copy(), (a,), lambda g: (g,), lambda g, *_: (g,))


def stop_gradient(x: Operand) -> Tensor:
    """Return the same values as a constant of every derivative; memory is shared."""
    return Tensor.wrap(as_operand(x, "stop_gradient")._array)


def assign(variable: Tensor, value: Operand) -> Tensor:
    """Write `value` to `variable`, and return that.

    A plain tensor gets new memory where the tape may need what it has.

    Args:
        variable: a tensor or parameter.
        value: of its shape, of its element type or a narrower one.

    Raises:
        TypeError: `variable` is no tensor, or cannot hold the element type of `value`.
        ValueError: the shapes differ.
        RuntimeError: `variable` is being differentiated by.
    """
    if not isinstance(variable, Tensor):
        raise TypeError(f"assign: {type(variable).__name__} is not a tensor")
    source = as_operand(value, "assign")._array
    if isinstance(value, bool | int | float):
        source = np.asarray(value, variable._array.dtype)
    target = variable._array
    if source.shape != target.shape:
        raise ValueError(
            f"assign: a value of shape {source.shape} does not fit a tensor of shape "
            f"{target.shape}"
        )
    if promote(source.dtype, target.dtype) != target.dtype:
        raise TypeError(
            f"assign: a tensor of {target.dtype.name} cannot hold {source.dtype.name} "
            f"without loss; convert the value with astype()"
        )
    is_leaf = isinstance(variable._node, tape.AccumulatorLeaf)
    if tape.is_tracked(variable) and (tape.is_recording() or not is_leaf):
        raise RuntimeError(
            "assign: this tensor is being differentiated by, and its derivative needs "
            "the values it has; assign after the gradient call"
        )
    note_write(variable)
    np.copyto(variable._array, source)
    return variable
