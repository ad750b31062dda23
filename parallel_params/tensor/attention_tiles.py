"""Tiles of attention: where they lie, and what is done to one while it is in the cache.

NumPy's exponentials are taken relative to the largest score of a whole tile. Scores are
scaled on the way there, and their gradients on the way back: they lie in the cache, and
queries do not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.kernels import BLOCK
from parallel_params.tensor.tape import Array

# Rows of exponentials that add up to less than this have lost digits to underflow.
_FAINT = 1e-20
# Queries in a tile under a causal mask: fewer skip more of it, more multiply faster. 64
# and 128 take the same time over 256 to 512 positions, 128 less over fewer.
_CAUSAL_QUERIES = 128

# (batch, head, queries) -> which of [queries, keys] dropout lets stand
Keeps: TypeAlias = Callable[[int, int, slice], NDArray[np.bool_]]
# [batch, heads, queries, width], [batch, groups, keys, width] and
# [batch, groups, keys, width of values]; heads // groups heads in a row share a group.
Heads: TypeAlias = tuple[Array, Array, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How queries look at keys.

    Args:
        scale: what scores are multiplied by.
        is_causal: whether query i sees only the keys 0 to i.
        bias: [batch, heads, queries, keys] added to the scores, may be broadcast views.
        keeps: which probabilities dropout lets stand; None for all.
        keep_prob: their share.
    """

    scale: float
    is_causal: bool = False
    bias: Array | None = None
    keeps: Keeps | None = None
    keep_prob: float = 1.0


@kernel(fast="parallel_params.tensor.fast.forms")
def probabilities(e: Array, scale: Array, future: Array | None, log: Array) -> bool:
    """Take the softmax of e * scale + future in place, row by row.

    Args:
        e: [rows, keys] scores.
        scale: [] what they are multiplied by.
        future: [rows, late] 0 and, above the diagonal, -infinity, for the last keys;
            None if all are seen.
        log: [rows] receives the logarithm of the sums of the exponentials.

    Returns:
        Whether that was done; False where some row needs a maximum of its own: e is
        spoilt then.
    """
    _mask(e, scale, future)
    top = np.asarray(np.maximum.reduce(e, None, initial=-np.inf))
    if not top > -np.inf:
        return False
    np.subtract(e, top, e)
    np.exp(e, e)
    sums: Array = e.dot(np.ones(e.shape[1], e.dtype))
    if not np.minimum.reduce(sums) >= _FAINT:
        return False
    np.divide(e, sums[:, None], e)
    np.add(np.log(sums), top, log)
    return True


@kernel(fast="parallel_params.tensor.fast.forms")
def slopes(
    p: Array, d: Array, log: Array, shift: Array, scale: Array, future: Array | None
) -> None:
    """Make the probabilities again, and the gradients of the scores.

    Args:
        p: [rows, keys] scores; becomes exp(p * scale + future - log of the rows).
        d: [rows, keys] gradients of those; becomes (d - shift of the rows) * p * scale.
        log: [rows] as `probabilities` left them.
        shift: [rows] the sums of the products of probabilities and their gradients.
        scale: [] as `probabilities` had it.
        future: likewise.
    """
    _mask(p, scale, future)
    np.subtract(p, log[:, None], p)
    np.exp(p, p)
    np.subtract(d, shift[:, None], d)
    np.multiply(d, p, d)
    if scale != 1:
        np.multiply(d, scale, d)


@kernel(fast="parallel_params.tensor.fast.forms")
def kept_slopes(
    p: Array, d: Array, shift: Array, scale: Array, future: Array | None
) -> None:
    """Take the gradients of the scores, where the probabilities were kept.

    Args:
        p: [rows, keys] the probabilities, 0 where `future` hides keys.
        d: [rows, keys] their gradients; becomes (d - shift of the rows) * p * scale.
        shift: [rows] the sums of the products of probabilities and their gradients.
        scale: [] as `probabilities` had it.
        future: likewise.
    """
    np.subtract(d, shift[:, None], d)
    np.multiply(d, p, d)
    if scale != 1:
        np.multiply(d, scale, d)


def _mask(scores: Array, scale: Array, future: Array | None) -> None:
    if scale != 1:
        np.multiply(scores, scale, scores)
    if future is not None:
        late = scores[:, scores.shape[1] - future.shape[1] :]
        np.add(late, future, late)


class Tiles:
    """Where the tiles of a head lie, and memory for the scores of one."""

    def __init__(self, q: Array, k: Array, scheme: Scheme) -> None:
        queries, keys, dtype = q.shape[2], k.shape[2], q.dtype
        step = max(1, BLOCK // (2 * max(1, keys)))
        if scheme.is_causal:
            step = min(step, _CAUSAL_QUERIES)
        step = min(step, queries)
        self.places = [
            (
                slice(start, min(start + step, queries)),
                min(start + step, keys) if scheme.is_causal else keys,
            )
            for start in range(0, queries, max(1, step))
        ]
        self.scale = np.asarray(scheme.scale, dtype)
        self.keeps = scheme.keeps
        self.keep_prob = np.asarray(scheme.keep_prob, dtype)
        self._one = np.asarray(1, dtype)
        self._q, self._scheme = q, scheme
        self._memory = [np.empty(step * keys, dtype) for _ in range(2)]
        # Above the diagonal lie the keys of the future.
        self._future = np.triu(np.full((step, step), -np.inf, dtype), 1)

    def kept(self) -> Array | None:
        """Return memory for all probabilities, if a head is one tile and none drops."""
        if len(self.places) != 1 or self.keeps is not None:
            return None
        [(_, stop)] = self.places
        return np.empty((*self._q.shape[:3], stop), self._q.dtype)

    def room(self, number: int, rows: slice, num_keys: int) -> Array:
        """Return scratch memory for queries and keys; two are to be had."""
        num_rows = rows.stop - rows.start
        flat = self._memory[number][: num_rows * num_keys]
        return flat.reshape(num_rows, num_keys)

    def future(self, rows: slice, stop: int) -> Array | None:
        """Return what hides the keys up to `stop` from earlier queries; or None."""
        if not self._scheme.is_causal or rows.start >= stop:
            return None
        return self._future[: rows.stop - rows.start, : stop - rows.start]

    def scores(self, b: int, h: int, rows: slice, keys: Array, out: Array) -> Array:
        """Write the scores of a tile, and return what is left to scale them by.

        They are scaled only where there is a bias to add.
        """
        np.matmul(self._q[b, h, rows], keys.T, out=out)
        bias = self._scheme.bias
        if bias is None:
            return self.scale
        np.multiply(out, self.scale, out)
        np.add(out, bias[b, h, rows, : len(keys)], out)
        return self._one

    def probabilities(
        self, b: int, h: int, rows: slice, keys: Array, log: Array, e: Array
    ) -> None:
        """Write the probabilities of a tile.

        Args:
            b: which of the batch.
            h: which head.
            rows: the queries.
            keys: [keys, width] those that are seen.
            log: [rows] receives the logarithm of the sums of exp(scores); 0 for a row
                that sees nothing, whose probabilities are 0.
            e: [rows, keys] receives the probabilities.
        """
        future = self.future(rows, len(keys))
        scale = self.scores(b, h, rows, keys, e)
        if probabilities(e, scale, future, log):
            return
        scale = self.scores(b, h, rows, keys, e)
        _mask(e, scale, future)
        if future is not None:  # a NaN has not become -infinity
            np.copyto(e[:, len(keys) - future.shape[1] :], future, where=future < 0)
        tops = np.maximum.reduce(e, 1, initial=-np.inf)
        is_blind = np.isneginf(tops)
        tops[is_blind] = 0
        np.subtract(e, tops[:, None], e)
        np.exp(e, e)
        sums = np.add.reduce(e, 1)
        sums[is_blind] = 1
        np.divide(e, sums[:, None], e)
        np.add(np.log(sums), tops, log)
