"""Softmax, its logarithm and the cross-entropy over rows, in blocks of rows.

Exponentials are taken relative to the largest element of a whole block, which is exact
as long as no row is far below it; `_exponentials` notices and starts over with the
maximum of every row. Row sums are products with a vector of ones: a quarter of the time
of a reduction over short rows.

All arrays are C-contiguous; results never share memory with inputs.
"""

from collections.abc import Iterator

import numpy as np

from parallel_params.tensor.kernels import BLOCK
from parallel_params.tensor.tape import Array

# A row whose exponentials add up to less than this has lost digits to underflow.
_FAINT = 1e-20


def _row_blocks(x: Array) -> Iterator[slice]:
    rows, width = x.shape
    step = max(1, BLOCK // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _exponentials(x: Array, e: Array, ones: Array) -> tuple[Array, Array]:
    """Write exp(x - top) into `e`; return its row sums, and top: [] or [rows, 1]."""
    top = np.asarray(np.maximum.reduce(x, None))
    np.subtract(x, top, e)
    np.exp(e, e)
    sums: Array = e @ ones
    if not np.minimum.reduce(sums) >= _FAINT:  # also where nan or infinity has spread
        top = np.maximum.reduce(x, 1, keepdims=True)
        np.subtract(x, top, e)
        np.exp(e, e)
        sums = np.add.reduce(e, 1)
    return sums, top


def softmax(x: Array, out: Array) -> None:
    """Write the softmax of every row into `out`; both [rows, width], width > 0."""
    ones = np.ones(x.shape[1], x.dtype)
    with np.errstate(invalid="ignore"):
        for rows in _row_blocks(x):
            sums, _ = _exponentials(x[rows], out[rows], ones)
            np.divide(out[rows], sums[:, None], out[rows])


def log_softmax(x: Array, out: Array) -> None:
    """Write log(softmax(row)) for every row; both [rows, width], width > 0."""
    ones = np.ones(x.shape[1], x.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        for rows in _row_blocks(x):
            sums, top = _exponentials(x[rows], out[rows], ones)
            np.subtract(x[rows], top, out[rows])
            np.subtract(out[rows], np.log(sums)[:, None], out[rows])


def cross_entropy(x: Array, labels: Array, grad: Array) -> Array:
    """Return log(sum(exp(row))) - row[label] of every row.

    Args:
        x: [rows, classes] logits, classes > 0.
        labels: [rows] of an integer type, each in [0, classes).
        grad: [rows, classes] receives softmax minus the one-hot labels.

    Returns:
        [rows] of the type of `x`.
    """
    rows, classes = x.shape
    ones = np.ones(classes, x.dtype)
    losses = np.empty(rows, x.dtype)
    at = np.arange(0, rows * classes, classes)
    np.add(at, labels, at, casting="unsafe")  # uint64 labels were checked to be small
    picked = x.reshape(-1).take(at)
    with np.errstate(invalid="ignore", divide="ignore"):
        for part in _row_blocks(x):
            e = grad[part]
            sums, top = _exponentials(x[part], e, ones)
            np.divide(e, sums[:, None], e)
            loss = losses[part]
            np.subtract(top.reshape(-1), picked[part], loss)
            np.add(loss, np.log(sums), loss)
    grad.reshape(-1)[at] -= np.asarray(1, x.dtype)
    return losses
