"""What derivatives may do to a `Value`, an array or a tensor, beyond its methods.

A derivative written with these and with operators serves both sweeps: over arrays, and
over tensors where the derivative will be differentiated in its turn.
"""

from typing import TypeVar

import numpy as np

from parallel_params.tensor.tensor import Array, Tensor

Value = TypeVar("Value", Array, Tensor)


def broadcast(value: Value, shape: tuple[int, ...]) -> Value:
    """Repeat `value` to `shape`; a view."""
    if isinstance(value, np.ndarray):
        return np.broadcast_to(value, shape)
    return value.broadcast_to(shape)


def unbroadcast(grad: Value, shape: tuple[int, ...]) -> Value:
    """Sum `grad` over the dims along which an operand of `shape` was broadcast."""
    if grad.shape == shape:
        return grad
    lead = len(grad.shape) - len(shape)
    dims = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 and grad.shape[lead + i] != 1
    )
    return (grad.sum(dims) if dims else grad).reshape(shape)
