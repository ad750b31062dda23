"""Losses: cross-entropy and mean squared error, with the gradient made in forward.

The gradient of a loss is a few passes over what forward has at hand; made there, in
place, it leaves one multiplication to the sweep.
"""

from typing import Literal, TypeAlias

import numpy as np

from parallel_params.tensor import tape
from parallel_params.tensor.ops.apply import Operand, as_operand, pair, result
from parallel_params.tensor.ops.loss_fused import fused_cross_entropy
from parallel_params.tensor.ops.loss_plain import (
    check_not_empty,
    check_reduction,
    plain_cross_entropy,
    reduced,
)
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

Reduction: TypeAlias = Literal["mean", "sum", "none"]


def cross_entropy(
    input: Operand,
    target: Operand,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy between softmax(input) and the target.

    Args:
        input: [classes], [rows, classes] or [rows, classes, ...] logits.
        target: integer labels, of that shape without classes; or probabilities, of that
            shape and element type.
        weight: [classes] importance of every class.
        ignore_index: rows with this label count for nothing.
        reduction: "mean" over the (weighted) labels, "sum", or "none".
        label_smoothing: share of the target that is spread evenly, in [0, 1].

    Raises:
        TypeError: the logits are not floating point, or the target is neither labels
            nor probabilities of their element type.
        ValueError: shapes do not fit, a label is out of range, an option is unknown, or
            there is nothing to take a mean of.
    """
    x, t = as_operand(input, "cross_entropy"), as_operand(target, "cross_entropy")
    logits, labels = x._array, t._array
    check_reduction(reduction, "cross_entropy")
    is_fused = (
        reduction != "none"
        and logits.ndim >= 2
        and logits.dtype.char in "fd"
        and labels.dtype.kind in "iu"
        and labels.shape == logits.shape[:1] + logits.shape[2:]
        and labels.size
        and not tape.is_nested()
    )
    if is_fused:
        if logits.ndim == 2:
            rows = np.ascontiguousarray(logits)
        else:
            by_row = np.ascontiguousarray(np.moveaxis(logits, 1, -1))
            rows, labels = by_row.reshape(labels.size, -1), labels.reshape(-1)
        grad = np.empty(rows.shape, rows.dtype)
        total = fused_cross_entropy(
            rows, labels, grad, weight, ignore_index, reduction == "mean",
            label_smoothing,
        )  # fmt: skip
        if total is not None:
            return _cross_entropy(x, total, grad)
    return plain_cross_entropy(x, t, weight, ignore_index, reduction, label_smoothing)


def _cross_entropy(x: Tensor, total: Array, grad: Array) -> Tensor:
    """Record a loss whose gradient is known: [rows, classes]."""
    shape = x._array.shape

    def vjp(g: Array) -> tuple[Array]:
        # This runs once, so the gradient may be finished where it lies.
        found = grad if g.item() == 1 else np.multiply(grad, g, grad)
        if len(shape) == 2:
            return (found,)
        by_row = found.reshape(shape[:1] + shape[2:] + shape[1:2])
        return (np.moveaxis(by_row, -1, 1),)

    return result(total, (x,), vjp)


def mse_loss(
    input: Operand,
    target: Operand,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the squares of input - target, which broadcast, and their mean or sum.

    Args:
        input: predictions.
        target: what they should be.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: the shapes do not broadcast, the reduction is unknown, or there is
            nothing to take a mean of.
    """
    check_reduction(reduction, "mse_loss")
    a, b = pair(input, target, "mse_loss")
    x, y = a._array, b._array
    is_plain = x.shape != y.shape or not x.size or x.dtype.char not in "fd"
    if is_plain or reduction == "none" or tape.is_nested():
        difference = a - b
        check_not_empty(difference.shape, reduction, "mse_loss")
        return reduced(difference * difference, reduction)
    d = np.asarray(np.subtract(x, y))
    flat = d.reshape(-1)
    scale = np.asarray(1.0 / x.size if reduction == "mean" else 1.0, x.dtype)
    out = np.asarray(np.multiply(np.dot(flat, flat), scale))
    wants = a._node is not None, b._node is not None

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        grad = np.multiply(d, g * (scale + scale), d)
        return grad if wants[0] else None, np.negative(grad) if wants[1] else None

    return result(out, (a, b), vjp)
