"""Elementwise arithmetic with broadcasting: plus, minus, times, divided by, powers."""

import numpy as np

from parallel_params.tensor.ops.apply import (
    Operand,
    as_operand,
    broadcasted,
    cast,
    pair,
    result,
)
from parallel_params.tensor.ops.value import Value, unbroadcast
from parallel_params.tensor.tensor import Array, Tensor


def add(left: Operand, right: Operand) -> Tensor:
    """Return left + right, broadcast."""
    a, b = pair(left, right, "add")
    x, y = a._array, b._array
    if x.shape == y.shape:
        return result(np.add(x, y), (a, b), _add_alike, _add_higher)
    out = broadcasted(np.add, x, y, "add")
    xs, ys = x.shape, y.shape
    return result(
        out, (a, b), lambda g: (unbroadcast(g, xs), unbroadcast(g, ys)), _add_higher
    )


def _add_alike(g: Array) -> tuple[Array, Array]:
    return g, g


def _add_higher(g: Tensor, _: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return unbroadcast(g, x.shape), unbroadcast(g, y.shape)


def sub(left: Operand, right: Operand) -> Tensor:
    """Return left - right, broadcast."""
    a, b = pair(left, right, "sub")
    x, y = a._array, b._array
    out = broadcasted(np.subtract, x, y, "sub")

    def grads(g: Value) -> tuple[Value, Value]:
        return unbroadcast(g, x.shape), unbroadcast(-g, y.shape)

    return result(out, (a, b), grads, lambda g, *_: grads(g))


def mul(left: Operand, right: Operand) -> Tensor:
    """Return left * right, broadcast."""
    a, b = pair(left, right, "mul")
    x, y = a._array, b._array
    out = broadcasted(np.multiply, x, y, "mul")
    # What needs no gradient costs none: a constant operand has no node.
    wants = a._node is not None, b._node is not None
    return result(out, (a, b), lambda g: _mul_grads(g, x, y, wants), _mul_higher)


def _mul_grads(
    g: Value, x: Value, y: Value, wants: tuple[bool, bool] = (True, True)
) -> tuple[Value | None, Value | None]:
    return (
        unbroadcast(g * y, x.shape) if wants[0] else None,
        unbroadcast(g * x, y.shape) if wants[1] else None,
    )


def _mul_higher(
    g: Tensor, _: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    return _mul_grads(g, x, y)


def div(left: Operand, right: Operand) -> Tensor:
    """Return left / right, broadcast; the quotient of integers is float32."""
    a, b = pair(left, right, "div")
    x, y = a._array, b._array
    if x.dtype.kind in "biu":
        single = np.dtype(np.float32)
        return div(cast(a, single), cast(b, single))
    out = np.asarray(broadcasted(np.divide, x, y, "div"))
    wants = a._node is not None, b._node is not None
    return result(
        out, (a, b), lambda g: _div_grads(g, out, x, y, wants), _div_higher
    )


def _div_grads(
    g: Value,
    out: Value,
    x: Value,
    y: Value,
    wants: tuple[bool, bool] = (True, True),
) -> tuple[Value | None, Value | None]:
    part = g / y
    return (
        unbroadcast(part, x.shape) if wants[0] else None,
        unbroadcast(-(part * out), y.shape) if wants[1] else None,
    )


def _div_higher(
    g: Tensor, out: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    return _div_grads(g, out, x, y)


def neg(x: Operand) -> Tensor:
    """Return -x.

    Raises:
        TypeError: the elements are booleans.
    """
    a = as_operand(x, "neg")
    if a._array.dtype.kind == "b":
        raise TypeError("neg takes numbers, not booleans; did you mean logical_not?")
    return result(np.negative(a._array), (a,), lambda g: (-g,), lambda g, *_: (-g,))
