"""Elementwise arithmetic with broadcasting: plus, minus, times, divided by, powers."""

import numpy as np

from parallel_params.tensor.ops.apply import (
    Operand,
    Value,
    as_operand,
    is_wanted,
    pair,
    result,
    unbroadcast,
)
from parallel_params.tensor.tensor import Tensor


def add(left: Operand, right: Operand) -> Tensor:
    """Return left + right, broadcast."""
    a, b = pair(left, right, "add")
    x, y = a._array, b._array
    if x.shape == y.shape:
        return result(np.add(x, y), (a, b), _twice, _add_higher)
    return result(np.add(x, y), (a, b), lambda g: _add_grads(g, x, y), _add_higher)


def _twice(g: Value) -> tuple[Value, Value]:
    return g, g


def _add_grads(g: Value, x: Value, y: Value) -> tuple[Value, Value]:
    return unbroadcast(g, x), unbroadcast(g, y)


def _add_higher(g: Tensor, _: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return _add_grads(g, x, y)


def mul(left: Operand, right: Operand) -> Tensor:
    """Return left * right, broadcast."""
    a, b = pair(left, right, "mul")
    x, y = a._array, b._array
    wants = is_wanted(a), is_wanted(b)
    return result(
        np.multiply(x, y), (a, b), lambda g: _mul_grads(g, x, y, wants), _mul_higher
    )


def _mul_grads(
    g: Value, x: Value, y: Value, wants: tuple[bool, bool] = (True, True)
) -> tuple[Value | None, Value | None]:
    return (
        unbroadcast(g * y, x) if wants[0] else None,
        unbroadcast(g * x, y) if wants[1] else None,
    )


def _mul_higher(
    g: Tensor, _: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    return _mul_grads(g, x, y)


def neg(x: Operand) -> Tensor:
    """Return -x."""
    a = as_operand(x, "neg")
    return result(np.negative(a._array), (a,), lambda g: (-g,), lambda g, _, x: (-g,))
