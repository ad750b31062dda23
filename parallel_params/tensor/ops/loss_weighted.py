"""The cross-entropy with options: one call of the fused kernel, and a factor a row."""

import numpy as np

from parallel_params.tensor import softmax_kernels
from parallel_params.tensor.kernels import row_blocks
from parallel_params.tensor.ops.apply import result
from parallel_params.tensor.ops.ids import are_in_range
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def weighted_cross_entropy(
    x: Tensor,
    labels: Array,
    weight: Tensor | None,
    ignore_index: int,
    is_mean: bool,
    label_smoothing: float,
) -> Tensor | None:
    """Return the mean or sum over the rows that count.

    Args:
        x: [rows, classes, ...] float32 or float64, not empty.
        labels: of that shape without classes, of an integer type.
        weight: [classes] or None.
        ignore_index: rows with this label count for nothing.
        is_mean: whether the sum is divided by the weights of the labels.
        label_smoothing: share of the target that is spread evenly.

    Returns:
        None for what single operators have to do: smoothing with weights, a mean of
        nothing, and what is an error.
    """
    by_row = np.moveaxis(x._array, 1, -1)
    rows = np.ascontiguousarray(by_row).reshape(-1, by_row.shape[-1])
    flat, classes = labels.reshape(-1), rows.shape[1]
    is_ignored = flat == ignore_index
    safe = np.where(is_ignored, 0, flat).astype(np.intp)
    is_odd = weight is not None and (label_smoothing or weight.shape != (classes,))
    if is_odd or not 0.0 <= label_smoothing <= 1.0 or not are_in_range(safe, classes):
        return None
    importance = _importance(weight, safe, rows.dtype)
    importance[is_ignored] = 0
    total = float(importance.sum(dtype=np.float64)) if is_mean else 1.0
    if not total:
        return None
    grad = np.empty_like(rows)
    losses = softmax_kernels.cross_entropy(rows, safe, grad, 1.0)
    if label_smoothing:
        _smooth(rows, safe, losses, grad, label_smoothing)
    # What is ignored may be anything, and is not to be multiplied by 0.
    losses[is_ignored] = 0
    np.multiply(importance, 1.0 / total, importance)
    np.multiply(grad, importance[:, None], grad)
    grad[is_ignored] = 0
    out = np.dot(losses, importance)

    def vjp(g: Array) -> tuple[Array]:
        # This runs once, so the gradient may be finished where it lies.
        found = grad if g == 1 else np.multiply(grad, g, grad)
        return (np.moveaxis(found.reshape(by_row.shape), -1, 1),)

    return result(out, (x,), vjp)


def _importance(
    weight: Tensor | None, labels: Array, dtype: "np.dtype[np.generic]"
) -> Array:
    if weight is None:
        return np.ones(len(labels), dtype)
    weights: Array = weight._array.astype(dtype)[labels]
    return weights


def _smooth(
    rows: Array, labels: Array, losses: Array, grad: Array, share: float
) -> None:
    """Spread a share of every target evenly, in losses and their gradients."""
    dtype, classes = rows.dtype, rows.shape[1]
    moved, even = np.asarray(share, dtype), np.asarray(share / classes, dtype)
    at = np.arange(0, rows.size, classes) + labels
    # Differences first: logits that are all large lose no digits, and do not overflow.
    shares = np.full(classes, even, dtype)
    for part in row_blocks(rows):
        block, loss = rows[part], losses[part]
        spread = np.subtract(block, rows.reshape(-1)[at[part], None]).dot(shares)
        # An infinite loss is what it is, and not to be added to its opposite.
        np.subtract(loss, spread, loss, where=np.isfinite(loss))
    np.subtract(grad, even, grad)
    grad.reshape(-1)[at] += moved
