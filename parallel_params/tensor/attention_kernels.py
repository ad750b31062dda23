"""Attention head by head, in tiles of queries whose scores stay in the L2 cache.

The probabilities are never kept: forward leaves the logarithm of every row's sum, and
the sweep makes them again from that with one product, one subtraction and one exp.
Where the mask is causal, a tile looks only at the keys its last query may see.

NumPy's exponentials are taken relative to the largest score of a whole tile. Scores are
scaled on the way there, and their gradients on the way back: they lie in the cache, and
queries do not.

All arrays are of one floating-point type; the last dims have unit stride, the others
any. Results never share memory with inputs.

Source: Dao et al., FlashAttention (2022), section 3.1, for tiles and recomputation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.attention_sight import Product, product, seen_product
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


def attention(heads: Heads, scheme: Scheme, out: Array, logs: Array) -> None:
    """Write softmax(q k^T * scale + bias) v into `out`, for every head.

    A query that may see no key at all gets zeros. Under a causal mask, what is not
    finite in keys and values of the future reaches no query; their gradients do not
    promise that, nor do other masks.

    Args:
        heads: queries, keys and values.
        scheme: scale, masks, dropout.
        out: [batch, heads, queries, width of values].
        logs: [batch, heads, queries] receives the logarithm of every row's sum.
    """
    tiles = _Tiles(heads[0], heads[1], scheme)
    _attend(heads, tiles, out, logs)
    if scheme.is_causal:
        # The last query of a tile sees all that the tile is multiplied with.
        last = [rows.stop - 1 for rows, _ in tiles.places]
        if not np.isfinite(out[:, :, last]).all():
            _attend(heads, tiles, out, logs, seen_product)


def _attend(
    heads: Heads, tiles: "_Tiles", out: Array, logs: Array, multiply: Product = product
) -> None:
    _, k, v = heads
    share = out.shape[1] // max(1, k.shape[1])
    for b, h in np.ndindex(out.shape[:2]):
        keys, values = k[b, h // share], v[b, h // share]
        for rows, stop in tiles.places:
            p = tiles.probabilities(b, h, rows, keys[:stop], logs[b, h, rows])
            if tiles.keeps is not None:
                np.multiply(p, tiles.keeps(b, h, rows)[:, :stop], p)
                np.divide(p, tiles.keep_prob, p)
            multiply(p, values[:stop], out[b, h, rows], rows.start)


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
    shifts = np.vecdot(g, out, out=np.empty(q.shape[:3], q.dtype))  # C order
    for b, h in np.ndindex(q.shape[:2]):
        group = h // share
        is_first = h % share == 0
        for rows, stop in reversed(tiles.places):
            keys, values = k[b, group, :stop], v[b, group, :stop]
            p, scale = tiles.scores(b, h, rows, keys)
            grad = g[b, h, rows]
            d = np.matmul(grad, values.T, out=tiles.room(1, len(p), stop))
            keep = None
            if scheme.keeps is not None:
                keep = scheme.keeps(b, h, rows)[:, :stop]
                np.multiply(d, keep, d)
                np.divide(d, tiles.keep_prob, d)
            future = tiles.future(rows, stop)
            slopes(p, d, logs[b, h, rows], shifts[b, h, rows], scale, future)
            if scale is not tiles.scale:
                np.multiply(d, tiles.scale, d)
            _add_product(d, q[b, h, rows], dk[b, group], is_first)
            np.matmul(d, keys, out=dq[b, h, rows])
            if keep is not None:
                np.multiply(p, keep, p)
                np.divide(p, tiles.keep_prob, p)
            _add_product(p, grad, dv[b, group], is_first)
            is_first = False


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


def _mask(scores: Array, scale: Array, future: Array | None) -> None:
    if scale != 1:
        np.multiply(scores, scale, scores)
    if future is not None:
        late = scores[:, scores.shape[1] - future.shape[1] :]
        np.add(late, future, late)


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
        self.keeps = scheme.keeps
        self.keep_prob = np.asarray(scheme.keep_prob, dtype)
        self._one = np.asarray(1, dtype)
        self._q, self._scheme = q, scheme
        self._memory = [np.empty(step * keys, dtype) for _ in range(2)]
        # Above the diagonal lie the keys of the future.
        self._future = np.triu(np.full((step, step), -np.inf, dtype), 1)

    def room(self, number: int, num_rows: int, num_keys: int) -> Array:
        """Return scratch memory [num_rows, num_keys]; two are to be had."""
        flat = self._memory[number][: num_rows * num_keys]
        return flat.reshape(num_rows, num_keys)

    def future(self, rows: slice, stop: int) -> Array | None:
        """Return what hides the keys up to `stop` from earlier queries; or None."""
        if not self._scheme.is_causal or rows.start >= stop:
            return None
        return self._future[: rows.stop - rows.start, : stop - rows.start]

    def scores(self, b: int, h: int, rows: slice, keys: Array) -> tuple[Array, Array]:
        """Return the scores of a tile, in scratch, and what is left to scale them by.

        They are scaled only where there is a bias to add.
        """
        out = self.room(0, rows.stop - rows.start, len(keys))
        np.matmul(self._q[b, h, rows], keys.T, out=out)
        bias = self._scheme.bias
        if bias is None:
            return out, self.scale
        np.multiply(out, self.scale, out)
        np.add(out, bias[b, h, rows, : len(keys)], out)
        return out, self._one

    def probabilities(
        self, b: int, h: int, rows: slice, keys: Array, log: Array
    ) -> Array:
        """Return the probabilities of a tile, in scratch.

        Args:
            b: which of the batch.
            h: which head.
            rows: the queries.
            keys: [keys, width] those that are seen.
            log: [rows] receives the logarithm of the sums of exp(scores); 0 for a row
                that sees nothing, whose probabilities are 0.
        """
        future = self.future(rows, len(keys))
        e, scale = self.scores(b, h, rows, keys)
        if probabilities(e, scale, future, log):
            return e
        e, scale = self.scores(b, h, rows, keys)
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
        return e
