"""The cross-entropy of rows with integer labels, and its gradient, by one kernel.

Where no row counts for more than another the gradient is finished by the kernel; else a
factor for every row follows.
"""

import numpy as np

from parallel_params.tensor import softmax_kernels
from parallel_params.tensor.ids import are_in_range
from parallel_params.tensor.kernels import row_blocks
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def fused_cross_entropy(
    rows: Array,
    labels: Array,
    grad: Array,
    weight: Tensor | None,
    ignore_index: int,
    is_mean: bool,
    label_smoothing: float,
) -> Array | None:
    """Return the mean or sum over the rows that count, [], and write its gradient.

    Args:
        rows: [rows, classes] float32 or float64, C-contiguous, not empty.
        labels: [rows] of an integer type.
        grad: [rows, classes] receives the gradient; may be `rows`.
        weight: [classes] or None.
        ignore_index: rows with this label count for nothing.
        is_mean: whether the sum is divided by the weights of the labels.
        label_smoothing: share of the target that is spread evenly.

    Returns:
        None for what single operators have to do: smoothing with weights, a mean of
        nothing, and what is an error. Nothing has been written then.
    """
    classes = rows.shape[1]
    has_options = weight is not None or label_smoothing != 0.0
    if not has_options and not 0 <= ignore_index < classes:
        scale = 1.0 / len(rows) if is_mean else 1.0
        total = softmax_kernels.cross_entropy_sum.run(rows, labels, grad, scale)
        if total is not None:
            return total
    return _weighted(rows, labels, grad, weight, ignore_index, is_mean, label_smoothing)


def _weighted(
    rows: Array,
    labels: Array,
    grad: Array,
    weight: Tensor | None,
    ignore_index: int,
    is_mean: bool,
    label_smoothing: float,
) -> Array | None:
    """The same with a factor for every row."""
    classes = rows.shape[1]
    is_ignored = labels == ignore_index
    safe = np.where(is_ignored, 0, labels).astype(np.intp)
    is_odd = weight is not None and (label_smoothing or weight.shape != (classes,))
    if is_odd or not 0.0 <= label_smoothing <= 1.0 or not are_in_range(safe, classes):
        return None
    importance = _importance(weight, safe, rows.dtype)
    importance[is_ignored] = 0
    total = float(importance.sum(dtype=np.float64)) if is_mean else 1.0
    if not total:
        return None
    spread = _spread(rows, safe, label_smoothing) if label_smoothing else None
    losses = softmax_kernels.cross_entropy(rows, safe, grad, 1.0)
    if spread is not None:
        # An infinite loss is what it is, and not to be added to its opposite.
        np.subtract(losses, spread, losses, where=np.isfinite(losses))
        _smooth(grad, safe, label_smoothing)
    # What is ignored may be anything, and is not to be multiplied by 0.
    losses[is_ignored] = 0
    np.multiply(importance, 1.0 / total, importance)
    np.multiply(grad, importance[:, None], grad)
    grad[is_ignored] = 0
    return np.asarray(np.dot(losses, importance))


def _importance(
    weight: Tensor | None, labels: Array, dtype: "np.dtype[np.generic]"
) -> Array:
    if weight is None:
        return np.ones(len(labels), dtype)
    weights: Array = weight._array.astype(dtype)[labels]
    return weights


def _spread(rows: Array, labels: Array, share: float) -> Array:
    """Return what losses lose where a share of every target is spread evenly."""
    classes = rows.shape[1]
    at = np.arange(0, rows.size, classes) + labels
    shares = np.full(classes, share / classes, rows.dtype)
    spread = np.empty(len(rows), rows.dtype)
    # Differences first: logits that are all large lose no digits, and do not overflow.
    for part in row_blocks(rows):
        told = rows.reshape(-1)[at[part], None]
        np.subtract(rows[part], told).dot(shares, out=spread[part])
    return spread


def _smooth(grad: Array, labels: Array, share: float) -> None:
    """Do the same to the gradients."""
    dtype, classes = grad.dtype, grad.shape[1]
    moved, even = np.asarray(share, dtype), np.asarray(share / classes, dtype)
    np.subtract(grad, even, grad)
    grad.reshape(-1)[np.arange(0, grad.size, classes) + labels] += moved
