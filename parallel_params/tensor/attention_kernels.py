"""Attention head by head, in tiles of queries whose scores stay in the L2 cache.

The probabilities are never kept: forward leaves the logarithm of every row's sum, and
the sweep makes them again from that with one product, one subtraction and one exp.
Where the mask is causal, a tile looks only at the keys its last query may see.

Exponentials are taken relative to the largest score of a whole tile and divided by
their sums after the product with the values, where there are fewer numbers to divide.

All arrays are of one floating-point type; the last dims have unit stride, the others
any. Results never share memory with inputs.

Source: Dao et al., FlashAttention (2022), section 3.1, for tiles and recomputation.
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
# Queries in a tile under a causal mask: fewer skip more of it, more multiply faster.
_CAUSAL_QUERIES = 64

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


def attention(heads: Heads, scheme: Scheme, out: Array, logs: Array) -> None:
    """Write softmax(q k^T * scale + bias) v into `out`, for every head.

    A query that may see no key at all gets zeros.

    Args:
        heads: queries, keys and values.
        scheme: scale, masks, dropout.
        out: [batch, heads, queries, width of values].
        logs: [batch, heads, queries] receives the logarithm of every row's sum.
    """
    q, k, v = heads
    share = q.shape[1] // max(1, k.shape[1])
    tiles = _Tiles(q, k, scheme)
    for b, h in np.ndindex(q.shape[:2]):
        keys, values = k[b, h // share], v[b, h // share]
        for rows, stop in tiles.places:
            e, sums = tiles.exponentials(b, h, rows, keys[:stop], logs[b, h, rows])
            if scheme.keeps is not None:
                np.multiply(e, scheme.keeps(b, h, rows)[:, :stop], e)
                np.multiply(sums, tiles.keep_prob, sums)
            into = np.matmul(e, values[:stop], out=out[b, h, rows])
            np.divide(into, sums[:, None], into)


def attention_grads(
    g: Array, heads: Heads, scheme: Scheme, out: Array, logs: Array, grads: Heads
) -> None:
    """Write the gradients of `attention`.

    Args:
        g: [batch, heads, queries, width of values] gradient of `out`.
        heads: as forward had it, like
        scheme: which must keep the same probabilities.
        out: as forward left it, like
        logs: which must both be untouched.
        grads: shaped like `heads`, receives their gradients.
    """
    (q, k, v), (dq, dk, dv) = heads, grads
    share = q.shape[1] // max(1, k.shape[1])
    tiles = _Tiles(q, k, scheme)
    if not q.shape[1] * q.shape[2]:
        dk.fill(0)
        dv.fill(0)
    for b, h in np.ndindex(q.shape[:2]):
        group = h // share
        is_first = h % share == 0
        for rows, stop in reversed(tiles.places):
            keys, values = k[b, group, :stop], v[b, group, :stop]
            p, scaled = tiles.scores(b, h, rows, keys)
            probabilities(p, logs[b, h, rows])
            grad = g[b, h, rows]
            d = np.matmul(grad, values.T, out=tiles.room(1, len(p), stop))
            kept = p
            if scheme.keeps is not None:
                keep = scheme.keeps(b, h, rows)[:, :stop]
                np.multiply(d, keep, d)
                np.divide(d, tiles.keep_prob, d)
                kept = np.multiply(p, keep, tiles.room(2, len(p), stop))
                np.divide(kept, tiles.keep_prob, kept)
            pull(d, p, np.vecdot(grad, out[b, h, rows]))
            _add_product(d, scaled, dk[b, group], is_first)
            _add_product(kept, grad, dv[b, group], is_first)
            is_first = False
            step = np.matmul(d, keys, out=dq[b, h, rows])
            np.multiply(step, tiles.scale, step)


@kernel(fast="parallel_params.tensor.fast.forms")
def exponentials(e: Array, ones: Array, log: Array) -> Array | None:
    """Take exp(e - something) in place, and return the sums of the rows.

    Args:
        e: [rows, keys] scores.
        ones: [keys].
        log: [rows] receives the logarithm of the sums of exp(e).

    Returns:
        [rows]; None where some row needs a maximum of its own: e is spoilt then.
    """
    top = np.asarray(np.maximum.reduce(e, None, initial=-np.inf))
    if not top > -np.inf:
        return None
    np.subtract(e, top, e)
    np.exp(e, e)
    sums: Array = e.dot(ones)
    if not np.minimum.reduce(sums) >= _FAINT:
        return None
    np.add(np.log(sums), top, log)
    return sums


@kernel(fast="parallel_params.tensor.fast.forms")
def probabilities(scores: Array, logs: Array) -> None:
    """Take exp(scores - logs of the rows) in place."""
    np.subtract(scores, logs[:, None], scores)
    np.exp(scores, scores)


@kernel(fast="parallel_params.tensor.fast.forms")
def pull(d: Array, p: Array, shift: Array) -> None:
    """Take (d - shift of the rows) * p in place of d."""
    np.subtract(d, shift[:, None], d)
    np.multiply(d, p, d)


def _add_product(left: Array, right: Array, total: Array, is_first: bool) -> None:
    """Add left^T right to the first rows of `total`; the first time, set all of it."""
    stop = left.shape[1]
    if is_first:
        np.matmul(left.T, right, out=total[:stop])
        total[stop:] = 0
    else:
        np.add(total[:stop], np.matmul(left.T, right), total[:stop])


class _Tiles:
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
        self.keep_prob = np.asarray(scheme.keep_prob, dtype)
        self.ones = np.ones(keys, dtype)
        self._q, self._scheme = q, scheme
        self._memory = [np.empty(step * keys, dtype) for _ in range(3)]
        self._scaled = np.empty((step, q.shape[3]), dtype)
        # Above the diagonal lie the keys of the future.
        self._future = np.triu(np.full((step, step), -np.inf, dtype), 1)

    def room(self, number: int, num_rows: int, num_keys: int) -> Array:
        """Return scratch memory [num_rows, num_keys]; three are to be had."""
        flat = self._memory[number][: num_rows * num_keys]
        return flat.reshape(num_rows, num_keys)

    def scores(self, b: int, h: int, rows: slice, keys: Array) -> tuple[Array, Array]:
        """Return the scores of a tile, masked, in scratch; and its queries, scaled."""
        num, stop = rows.stop - rows.start, len(keys)
        scaled = np.multiply(self._q[b, h, rows], self.scale, self._scaled[:num])
        out = np.matmul(scaled, keys.T, out=self.room(0, num, stop))
        scheme = self._scheme
        if scheme.bias is not None:
            np.add(out, scheme.bias[b, h, rows, :stop], out)
        if scheme.is_causal and rows.start < stop:
            late = out[:, rows.start :]
            np.add(late, self._future[:num, : stop - rows.start], late)
        return out, scaled

    def exponentials(
        self, b: int, h: int, rows: slice, keys: Array, log: Array
    ) -> tuple[Array, Array]:
        """Return exp(scores - something) of a tile, in scratch, and its row sums.

        Args:
            b: which of the batch.
            h: which head.
            rows: the queries.
            keys: [keys, width] those that are seen.
            log: [rows] receives the logarithm of the sums of exp(scores); 0 for a row
                that sees nothing, whose sum is given as 1.
        """
        e, _ = self.scores(b, h, rows, keys)
        sums = exponentials(e, self.ones[: len(keys)], log)
        if sums is not None:
            return e, sums
        self.scores(b, h, rows, keys)
        tops = np.maximum.reduce(e, 1, initial=-np.inf)
        is_blind = np.isneginf(tops)
        tops[is_blind] = 0
        np.subtract(e, tops[:, None], e)
        np.exp(e, e)
        sums = np.add.reduce(e, 1)
        sums[is_blind] = 1
        np.add(np.log(sums), tops, log)
        return e, sums
