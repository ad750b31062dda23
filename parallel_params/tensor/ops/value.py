"""What derivatives may do to a `Value`, an array or a tensor, beyond its methods.

A derivative written with these and with operators serves both sweeps: over arrays, and
over tensors where the derivative will be differentiated in its turn.
"""

from typing import TypeVar

import numpy as np

from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

Value = TypeVar("Value", Array, Tensor)


def broadcast(value: Value, shape: tuple[int, ...]) -> Value:
    """Repeat `value` to `shape`; of an array, a view."""
    if isinstance(value, Tensor):
        return value.broadcast_to(shape)
    return np.broadcast_to(value, shape)


def unbroadcast(grad: Value, shape: tuple[int, ...]) -> Value:
    """Sum `grad` over the dims along which an operand of `shape` was broadcast."""
    if grad.shape == shape:
        return grad
    lead = len(grad.shape) - len(shape)
    dims = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 and grad.shape[lead + i] != 1
    )
    if not dims:
        return grad.reshape(shape)
    if isinstance(grad, Tensor):
        return grad.sum(dims).reshape(shape)
    # By hand, because NumPy adds small integers up in wider ones.
    is_short = grad.itemsize == 2 and grad.dtype.kind not in "iu"
    total: Array = np.add.reduce(grad, dims, np.float32 if is_short else grad.dtype)
    return total.astype(grad.dtype, copy=False).reshape(shape)


def like(value: Value, constant: Array) -> Value:
    """Return `constant` as an array or tensor, as `value` is one."""
    if isinstance(value, Tensor):
        return Tensor.wrap(constant)
    return constant


def log(value: Value) -> Value:
    """Return the natural logarithm."""
    if isinstance(value, Tensor):
        return value.log()
    return np.log(value)


def array_of(value: Value) -> Array:
    """Return the numbers of an array or tensor."""
    if isinstance(value, Tensor):
        return value._array
    return value
