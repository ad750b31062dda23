"""Softmax, its logarithm and the cross-entropy over rows, in blocks of rows.

Exponentials are taken relative to the largest element of a whole block, which is exact
as long as no row is far below it; `_exponentials` notices and starts over with the
maximum of every row. Row sums are products with a vector of ones: a quarter of the time
of a reduction over short rows.

All arrays are C-contiguous; results share no memory with inputs but where it is said.
"""

from functools import lru_cache

import numpy as np

from parallel_params.tensor.ids import are_in_range
from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.kernels import BLOCK
from parallel_params.tensor.tape import Array

# A row whose exponentials add up to less than this has lost digits to underflow.
_FAINT = 1e-20


def _block_rows(x: Array) -> int:
    width: int = x.shape[1]
    return max(1, BLOCK // width)


@lru_cache(maxsize=8)
def _ones(number: int, dtype: np.dtype[np.generic]) -> Array:
    ones = np.ones(number, dtype)
    ones.flags.writeable = False
    return ones


@lru_cache(maxsize=8)
def _firsts(rows: int, width: int) -> Array:
    """Return where each row of [rows, width] starts."""
    firsts = np.arange(0, rows * width, width)
    firsts.flags.writeable = False
    return firsts


def _exponentials(x: Array, e: Array, ones: Array) -> tuple[Array, Array]:
    """Write exp(x - top) into `e`; return its row sums, and top: [] or [rows, 1]."""
    top = np.asarray(np.maximum.reduce(x, None))
    np.subtract(x, top, e)
    np.exp(e, e)
    sums: Array = e.dot(ones)
    if not np.minimum.reduce(sums) >= _FAINT:  # also where nan or infinity has spread
        top = np.maximum.reduce(x, 1, keepdims=True)
        np.subtract(x, top, e)
        np.exp(e, e)
        sums = np.add.reduce(e, 1)
    return sums, top


@kernel(fast="parallel_params.tensor.fast.forms")
def softmax(x: Array, out: Array) -> None:
    """Write the softmax of every row into `out`; both [rows, width], width > 0."""
    ones = _ones(x.shape[1], x.dtype)
    step = _block_rows(x)
    for start in range(0, len(x), step):
        e = out[start : start + step]
        sums, _ = _exponentials(x[start : start + step], e, ones)
        np.divide(e, sums[:, None], e)


@kernel(fast="parallel_params.tensor.fast.forms")
def log_softmax(x: Array, out: Array) -> None:
    """Write log(softmax(row)) for every row; both [rows, width], width > 0."""
    ones = _ones(x.shape[1], x.dtype)
    step = _block_rows(x)
    for start in range(0, len(x), step):
        block, e = x[start : start + step], out[start : start + step]
        sums, top = _exponentials(block, e, ones)
        np.subtract(block, top, e)
        np.subtract(e, np.log(sums)[:, None], e)


@kernel(fast="parallel_params.tensor.fast.forms")
def cross_entropy(x: Array, labels: Array, grad: Array, scale: float) -> Array:
    """Return log(sum(exp(row))) - row[label] of every row.

    Args:
        x: [rows, classes] logits, classes > 0.
        labels: [rows] of an integer type, each in [0, classes).
        grad: [rows, classes] receives softmax minus the one-hot labels, times `scale`;
            may be `x`.
        scale: what the gradient is multiplied by.

    Returns:
        [rows] of the type of `x`.
    """
    rows, classes = x.shape
    firsts, ones = _firsts(rows, classes), _ones(classes, x.dtype)
    factor = np.array(scale, x.dtype)
    # Labels of uint64 were checked to be small.
    at = np.add(firsts, labels, dtype=np.int64, casting="unsafe")
    losses = x.reshape(-1).take(at)
    step = _block_rows(x)
    for start in range(0, rows, step):
        stop = start + step
        e, loss = grad[start:stop], losses[start:stop]
        block = e.copy() if grad is x else x[start:stop]
        sums, top = _exponentials(block, e, ones)
        np.subtract(top.reshape(-1), loss, loss)
        np.add(loss, np.log(sums), loss)
        np.divide(factor, sums, sums)
        np.multiply(e, sums[:, None], e)
    grad.reshape(-1)[at] -= factor
    return losses


@kernel(fast="parallel_params.tensor.fast.forms")
def cross_entropy_sum(
    x: Array, labels: Array, grad: Array, scale: float
) -> Array | None:
    """Return the sum of what `cross_entropy` returns, times `scale`, [].

    Args:
        x: as of `cross_entropy`.
        labels: [rows] of an integer type; any number.
        grad: as of `cross_entropy`.
        scale: likewise.

    Returns:
        None if a label is out of range; nothing has been written then.
    """
    if not are_in_range(labels, x.shape[1]):
        return None
    losses = cross_entropy(x, labels, grad, scale)
    return np.asarray(np.add.reduce(losses) * x.dtype.type(scale))
