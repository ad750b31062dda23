"""Attention head by head, in tiles of queries whose scores stay in the L2 cache.

Where one tile is a whole head, its probabilities are kept for the sweep. Else forward
leaves the logarithm of every row's sum, and the sweep makes them again from that with
one product, one subtraction and one exp. Where the mask is causal, a tile looks only at
the keys its last query may see.

All arrays are of one floating-point type; the last dims have unit stride, the others
any. Results never share memory with inputs.

Source: Dao et al., FlashAttention (2022), section 3.1, for tiles and recomputation.
"""

import numpy as np

from parallel_params.tensor.attention_sight import Product, product, seen_product
from parallel_params.tensor.attention_tiles import (
    Heads,
    Scheme,
    Tiles,
    kept_slopes,
    slopes,
)
from parallel_params.tensor.tape import Array


def attention(heads: Heads, scheme: Scheme, out: Array) -> Array:
    """Write softmax(q k^T * scale + bias) v into `out`, for every head.

    A query that may see no key at all gets zeros. Under a causal mask, what is not
    finite in keys and values of the future reaches no query; their gradients do not
    promise that, nor do other masks.

    Args:
        heads: queries, keys and values.
        scheme: scale, masks, dropout.
        out: [batch, heads, queries, width of values].

    Returns:
        What the sweep needs: [batch, heads, queries, keys] all probabilities, if a head
        is one tile and nothing is dropped; else [batch, heads, queries] the logarithms
        of the sums of the rows.
    """
    tiles = Tiles(heads[0], heads[1], scheme)
    saved = _attend(heads, tiles, out)
    if scheme.is_causal:
        # The last query of a tile sees all that the tile is multiplied with.
        last = [rows.stop - 1 for rows, _ in tiles.places]
        if not np.isfinite(out[:, :, last]).all():
            saved = _attend(heads, tiles, out, seen_product)
    return saved


def _attend(
    heads: Heads, tiles: Tiles, out: Array, multiply: Product = product
) -> Array:
    _, k, v = heads
    share = out.shape[1] // max(1, k.shape[1])
    logs = np.empty(out.shape[:3], out.dtype)
    kept = tiles.kept()
    for b, h in np.ndindex(out.shape[:2]):
        keys, values = k[b, h // share], v[b, h // share]
        for rows, stop in tiles.places:
            p = tiles.room(0, rows, stop) if kept is None else kept[b, h]
            tiles.probabilities(b, h, rows, keys[:stop], logs[b, h, rows], p)
            if tiles.keeps is not None:
                np.multiply(p, tiles.keeps(b, h, rows)[:, :stop], p)
                np.divide(p, tiles.keep_prob, p)
            multiply(p, values[:stop], out[b, h, rows], rows.start)
    return logs if kept is None else kept


def attention_grads(
    g: Array, heads: Heads, scheme: Scheme, out: Array, saved: Array, grads: Heads
) -> None:
    """Write the gradients of `attention`.

    Args:
        g: [batch, heads, queries, width of values] gradient of `out`.
        heads: as forward had it, like
        scheme: which must keep the same probabilities.
        out: as forward left it, like
        saved: which must both be untouched.
        grads: shaped like `heads`, receives their gradients.
    """
    (q, k, v), (dq, dk, dv) = heads, grads
    share = q.shape[1] // max(1, k.shape[1])
    tiles = Tiles(q, k, scheme)
    if not q.shape[1] * q.shape[2]:
        dk.fill(0)
        dv.fill(0)
    shifts = np.vecdot(g, out, out=np.empty(q.shape[:3], q.dtype))  # C order
    for b, h in np.ndindex(q.shape[:2]):
        group = h // share
        is_first = h % share == 0
        for rows, stop in reversed(tiles.places):
            keys, values = k[b, group, :stop], v[b, group, :stop]
            grad, shift = g[b, h, rows], shifts[b, h, rows]
            future = tiles.future(rows, stop)
            d = np.matmul(grad, values.T, out=tiles.room(1, rows, stop))
            keep = None
            if saved.ndim == 4:
                p = saved[b, h]
                kept_slopes(p, d, shift, tiles.scale, future)
            else:
                if scheme.keeps is not None:
                    keep = scheme.keeps(b, h, rows)[:, :stop]
                    np.multiply(d, keep, d)
                    np.divide(d, tiles.keep_prob, d)
                p = tiles.room(0, rows, stop)
                scale = tiles.scores(b, h, rows, keys, p)
                slopes(p, d, saved[b, h, rows], shift, scale, future)
                if scale is not tiles.scale:
                    np.multiply(d, tiles.scale, d)
            _add_product(d, q[b, h, rows], dk[b, group], is_first)
            np.matmul(d, keys, out=dq[b, h, rows])
            if keep is not None:
                np.multiply(p, keep, p)
                np.divide(p, tiles.keep_prob, p)
            _add_product(p, grad, dv[b, group], is_first)
            is_first = False


def _add_product(left: Array, right: Array, total: Array, is_first: bool) -> None:
    """Add left^T right to the first rows of `total`; the first time, set all of it."""
    stop = left.shape[1]
    if is_first:
        np.matmul(left.T, right, out=total[:stop])
        total[stop:] = 0
    else:
        np.add(total[:stop], np.matmul(left.T, right), total[:stop])
