"""Elementwise arithmetic with broadcasting: plus, minus, times, divided by, remainder.

Where NumPy warns (overflow, division by zero) these do: `np.errstate` is obeyed.
"""

import numpy as np

from parallel_params.tensor.ops.apply import (
    Operand,
    as_operand,
    broadcasted,
    cast,
    pair,
    result,
)
from parallel_params.tensor.ops.value import Value, like, unbroadcast
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

Both = tuple[Value | None, Value | None]


def add(left: Operand, right: Operand) -> Tensor:
    """Return left + right, broadcast."""
    a, b = pair(left, right, "add")
    x, y = a._array, b._array
    if x.shape == y.shape:
        return result(np.add(x, y), (a, b), _add_alike, _add_higher)
    xs, ys = x.shape, y.shape
    return result(
        broadcasted(np.add, x, y, "add"),
        (a, b),
        lambda g: (unbroadcast(g, xs), unbroadcast(g, ys)),
        _add_higher,
    )


def _add_alike(g: Array) -> tuple[Array, Array]:
    return g, g


def _add_higher(g: Tensor, _: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return unbroadcast(g, x.shape), unbroadcast(g, y.shape)


def sub(left: Operand, right: Operand) -> Tensor:
    """Return left - right, broadcast."""
    a, b = pair(left, right, "sub")
    xs, ys = a._array.shape, b._array.shape

    def grads(g: Value) -> tuple[Value, Value]:
        return unbroadcast(g, xs), unbroadcast(-g, ys)

    out = broadcasted(np.subtract, a._array, b._array, "sub")
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
) -> Both[Value]:
    return (
        unbroadcast(g * y, x.shape) if wants[0] else None,
        unbroadcast(g * x, y.shape) if wants[1] else None,
    )


def _mul_higher(g: Tensor, _: Tensor, x: Tensor, y: Tensor) -> Both[Tensor]:
    return _mul_grads(g, x, y)


def div(left: Operand, right: Operand) -> Tensor:
    """Return left / right, broadcast; the quotient of integers is float32."""
    a, b = pair(left, right, "div")
    x, y = a._array, b._array
    if x.dtype.kind in "biu":
        single = np.dtype(np.float32)
        return div(cast(a, single), cast(b, single))
    out = broadcasted(np.divide, x, y, "div")
    wants = a._node is not None, b._node is not None
    return result(out, (a, b), lambda g: _div_grads(g, out, x, y, wants), _div_grads)


def _div_grads(
    g: Value, out: Value, x: Value, y: Value, wants: tuple[bool, bool] = (True, True)
) -> Both[Value]:
    part = g / y
    return (
        unbroadcast(part, x.shape) if wants[0] else None,
        unbroadcast(-(part * out), y.shape) if wants[1] else None,
    )


def floor_div(left: Operand, right: Operand) -> Tensor:
    """Return the largest whole number not above left / right; its derivative is 0."""
    a, b = pair(left, right, "floor_div")
    return Tensor.wrap(broadcasted(np.floor_divide, a._array, b._array, "floor_div"))


def mod(left: Operand, right: Operand) -> Tensor:
    """Return left - floor(left / right) * right, which has the sign of `right`."""
    a, b = pair(left, right, "mod")
    x, y = a._array, b._array
    out = broadcasted(np.remainder, x, y, "mod")
    xs, ys = x.shape, y.shape

    def grads(g: Value) -> tuple[Value, Value]:
        steps = np.floor_divide(x, y)
        return unbroadcast(g, xs), unbroadcast(-g * like(g, steps), ys)

    return result(out, (a, b), grads, lambda g, *_: grads(g))


def neg(x: Operand) -> Tensor:
    """Return -x.

    Raises:
        TypeError: the elements are booleans.
    """
    a = as_operand(x, "neg")
    if a._array.dtype.kind == "b":
        raise TypeError("neg takes numbers, not booleans; did you mean logical_not?")
    return result(np.negative(a._array), (a,), lambda g: (-g,), lambda g, *_: (-g,))


def maximum(left: Operand, right: Operand) -> Tensor:
    """Return the larger of each two elements; equal ones share the gradient.

    What is no number counts as the larger, and as equal to another such.
    """
    return _extreme(np.maximum, np.greater, left, right, "maximum")


def minimum(left: Operand, right: Operand) -> Tensor:
    """Return the smaller of each two elements; equal ones share the gradient.

    What is no number counts as the smaller, and as equal to another such.
    """
    return _extreme(np.minimum, np.less, left, right, "minimum")


def _extreme(
    ufunc: np.ufunc, wins: np.ufunc, left: Operand, right: Operand, operator: str
) -> Tensor:
    a, b = pair(left, right, operator)
    x, y = a._array, b._array
    out = broadcasted(ufunc, x, y, operator)

    def grads(g: Value) -> tuple[Value, Value]:
        share = np.asarray(wins(x, y)).astype(np.float32)
        share += np.float32(0.5) * np.equal(x, y)
        is_nan = np.not_equal(x, x)
        share += is_nan * (np.float32(1) - np.float32(0.5) * np.not_equal(y, y))
        of_x = g * like(g, share.astype(x.dtype))
        return unbroadcast(of_x, x.shape), unbroadcast(g - of_x, y.shape)

    return result(out, (a, b), grads, lambda g, *_: grads(g))


def clip_by_value(
    x: Operand, clip_value_min: Operand = None, clip_value_max: Operand = None
) -> Tensor:
    """Return the elements, none below the one bound nor above the other.

    The derivative is 1 on the bounds and between them, and of what is no number; 0
    outside.

    Raises:
        ValueError: there is no bound.
    """
    if clip_value_min is None and clip_value_max is None:
        raise ValueError("clip_by_value: give a smallest or a largest value, or both")
    out = as_operand(x, "clip_by_value")
    if clip_value_min is not None:
        out = _clip(np.maximum, np.less, out, clip_value_min)
    if clip_value_max is not None:
        out = _clip(np.minimum, np.greater, out, clip_value_max)
    return out


def _clip(ufunc: np.ufunc, is_outside: np.ufunc, x: Tensor, bound: Operand) -> Tensor:
    a, b = pair(x, bound, "clip_by_value")
    array, limit = a._array, b._array
    out = broadcasted(ufunc, array, limit, "clip_by_value")

    def grads(g: Value) -> tuple[Value, Value]:
        inside = np.logical_not(is_outside(array, limit)).astype(array.dtype)
        of_x = g * like(g, inside)
        return unbroadcast(of_x, array.shape), unbroadcast(g - of_x, limit.shape)

    return result(out, (a, b), grads, lambda g, *_: grads(g))
