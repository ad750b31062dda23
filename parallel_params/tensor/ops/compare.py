"""Comparisons, logic on their results, and `where`."""

from collections.abc import Callable

import numpy as np

from parallel_params.tensor.ops.apply import (
    Operand,
    as_operand,
    broadcasted,
    misfit,
    pair,
    result,
)
from parallel_params.tensor.ops.value import Value, like, unbroadcast
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def equal(left: Operand, right: Operand) -> Tensor:
    """Return left == right, element by element; nan equals nothing."""
    return _compare(np.equal, left, right, "equal")


def not_equal(left: Operand, right: Operand) -> Tensor:
    """Return left != right, element by element."""
    return _compare(np.not_equal, left, right, "not_equal")


def less(left: Operand, right: Operand) -> Tensor:
    """Return left < right, element by element."""
    return _compare(np.less, left, right, "less")


def less_equal(left: Operand, right: Operand) -> Tensor:
    """Return left <= right, element by element."""
    return _compare(np.less_equal, left, right, "less_equal")


def greater(left: Operand, right: Operand) -> Tensor:
    """Return left > right, element by element."""
    return _compare(np.greater, left, right, "greater")


def greater_equal(left: Operand, right: Operand) -> Tensor:
    """Return left >= right, element by element."""
    return _compare(np.greater_equal, left, right, "greater_equal")


def _compare(ufunc: np.ufunc, left: Operand, right: Operand, operator: str) -> Tensor:
    if (
        isinstance(left, Tensor)
        and type(right) is int
        and left._array.dtype.kind in "iu"
    ):
        # NumPy compares with a number that the element type cannot hold; we cannot
        # convert to it.
        return Tensor.wrap(np.asarray(ufunc(left._array, right)))
    a, b = pair(left, right, operator)
    return Tensor.wrap(np.asarray(broadcasted(ufunc, a._array, b._array, operator)))


def logical_and(left: Operand, right: Operand) -> Tensor:
    """Return whether both elements are true, or not 0."""
    return _compare(np.logical_and, left, right, "logical_and")


def logical_or(left: Operand, right: Operand) -> Tensor:
    """Return whether one of the elements is true, or not 0."""
    return _compare(np.logical_or, left, right, "logical_or")


def logical_xor(left: Operand, right: Operand) -> Tensor:
    """Return whether exactly one of the elements is true, or not 0."""
    return _compare(np.logical_xor, left, right, "logical_xor")


def logical_not(x: Operand) -> Tensor:
    """Return whether the element is false, or 0."""
    return _test(np.logical_not, x, "logical_not")


def invert(x: Operand) -> Tensor:
    """Return ~x: of booleans the opposite, of integers all bits flipped.

    Raises:
        TypeError: the elements are floating point.
    """
    a = as_operand(x, "invert")
    if a._array.dtype.kind not in "biu":
        raise TypeError(f"invert takes booleans and integers, not {a.dtype}")
    return _test(np.invert, a, "invert")


def isnan(x: Operand) -> Tensor:
    """Return whether the element is nan."""
    return _test(np.isnan, x, "isnan")


def isinf(x: Operand) -> Tensor:
    """Return whether the element is infinite."""
    return _test(np.isinf, x, "isinf")


def isfinite(x: Operand) -> Tensor:
    """Return whether the element is neither infinite nor nan."""
    return _test(np.isfinite, x, "isfinite")


def _test(ufunc: Callable[[Array], Array], x: Operand, operator: str) -> Tensor:
    return Tensor.wrap(np.asarray(ufunc(as_operand(x, operator)._array)))


def where(
    condition: Operand,
    input: Operand,
    other: Operand,
) -> Tensor:
    """Return elements of `input` where `condition` is true and of `other` elsewhere.

    What is not taken has the gradient 0, whatever its value: also beside nan.

    Raises:
        TypeError: the elements of `condition` are not booleans.
        ValueError: the shapes do not broadcast.
    """
    test = as_operand(condition, "where")._array
    if test.dtype.kind != "b":
        raise TypeError(
            f"where: the condition must hold booleans, not {test.dtype.name}; compare "
            f"it with something"
        )
    a, b = pair(input, other, "where")
    x, y = a._array, b._array
    try:
        out = np.where(test, x, y)
    except ValueError:
        complaint = (
            misfit("where", x.shape, y.shape)
            or misfit("where", test.shape, x.shape)
            or misfit("where", test.shape, y.shape)
        )
        raise ValueError(complaint) from None
    wants = a._node is not None, b._node is not None

    def grads(g: Value) -> tuple[Value | None, Value | None]:
        return (
            unbroadcast(_kept(g, test), x.shape) if wants[0] else None,
            unbroadcast(_kept(g, ~test), y.shape) if wants[1] else None,
        )

    return result(out, (a, b), grads, lambda g, *_: grads(g))


def masked_fill(input_x: Operand, mask: Operand, value: Operand) -> Tensor:
    """Return the tensor with `value` where `mask` is true.

    Args:
        input_x: of any shape.
        mask: of bools; both broadcast.
        value: a number, or a tensor of no dim.

    Raises:
        TypeError: the mask is not of bools.
        ValueError: the shapes do not broadcast, or the value has dims.
    """
    x, at = as_operand(input_x, "masked_fill"), as_operand(mask, "masked_fill")
    if at._array.dtype != np.bool_:
        raise TypeError(f"masked_fill: the mask is of bools, not of {at.dtype}")
    filler = as_operand(value, "masked_fill")
    if filler.ndim:
        raise ValueError(
            f"masked_fill: the value is one number, not of shape {filler.shape}"
        )
    return where(at, filler.astype(x.dtype), x)


def _kept(g: Value, test: Array) -> Value:
    if isinstance(g, Tensor):
        return where(Tensor.wrap(test), g, like(g, np.zeros((), g._array.dtype)))
    return np.where(test, g, np.zeros((), g.dtype))
