"""Attention in tiles of queries whose scores stay in the L2 cache, some heads at once.

Where all scores of a head fit there, its probabilities are kept for the sweep. Else
forward leaves the logarithm of every row's sum, and the sweep makes them again from
that with one product, one subtraction and one exp. Where the mask is causal, a tile
looks only at the keys its last query may see.

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
from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.tape import Array


@kernel(fast="parallel_params.tensor.fast.attention")
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
        What the sweep needs: all probabilities of all tiles, one after the other, where
        a head is small and nothing is dropped; else [batch, heads, queries] the
        logarithms of the sums of the rows.
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
    saved = tiles.memory_to_save()
    for b, own, shared in tiles.stacks:
        keys, values = k[b, shared], v[b, shared]
        num = own.stop - own.start
        for tile, (rows, stop) in enumerate(tiles.places):
            p = tiles.room(0, num, rows, stop)
            if tiles.are_kept:
                p = tiles.kept(saved, b, own, tile)
            log = np.empty(p.shape[:2], p.dtype)
            tiles.probabilities(b, own, rows, keys[:, :stop], log, p)
            if not tiles.are_kept:
                saved[b, own, rows] = log
            tiles.drop(p, tiles.keep(b, own, tile))
            multiply(p, values[:, :stop], out[b, own, rows], rows.start)
    return saved


@kernel(fast="parallel_params.tensor.fast.attention")
def attention_grads(
    g: Array, heads: Heads, scheme: Scheme, saved: Array, grads: Heads
) -> None:
    """Write the gradients of `attention`.

    Args:
        g: [batch, heads, queries, width of values] gradient of its result.
        heads: as forward had it.
        scheme: which must keep the same probabilities.
        saved: as forward left it, untouched.
        grads: shaped like `heads`, receives their gradients.
    """
    (q, k, v), (dq, dk, dv) = heads, grads
    share = q.shape[1] // max(1, k.shape[1])
    tiles = Tiles(q, k, scheme)
    if not q.shape[1] * q.shape[2]:
        dk.fill(0)
        dv.fill(0)
    for b, own, shared in tiles.stacks:
        num = own.stop - own.start
        is_first = own.start % share == 0
        for tile in reversed(range(len(tiles.places))):
            rows, stop = tiles.places[tile]
            keys, values = k[b, shared, :stop], v[b, shared, :stop]
            grad, future = g[b, own, rows], tiles.future(rows, stop)
            d = tiles.room(1, num, rows, stop)
            np.matmul(grad, values.swapaxes(1, 2), out=d)
            keep = None
            if tiles.are_kept:
                p = tiles.kept(saved, b, own, tile)
                kept_slopes(p, d, tiles.scale, future)
            else:
                keep = tiles.keep(b, own, tile)
                tiles.drop(d, keep)
                p = tiles.room(0, num, rows, stop)
                scale = tiles.scores(b, own, rows, keys, p)
                log = np.ascontiguousarray(saved[b, own, rows])
                slopes(p, d, log, scale, future)
                if scale is not tiles.scale:
                    np.multiply(d, tiles.scale, d)
            _add_product(d, q[b, own, rows], dk[b, shared], is_first)
            np.matmul(d, keys, out=dq[b, own, rows])
            tiles.drop(p, keep)
            _add_product(p, grad, dv[b, shared], is_first)
            is_first = False


def _add_product(left: Array, right: Array, total: Array, is_first: bool) -> None:
    """Add left^T right to the first rows of `total`; the first time, set all of it.

    Args:
        left: [heads, queries, some keys].
        right: [heads, queries, width].
        total: [heads, keys, width], or [1, keys, width] for the sum over heads.
        is_first: whether nothing has been added yet.
    """
    if len(total) < len(left):
        for i in range(len(left)):
            one = slice(i, i + 1)
            _add_product(left[one], right[one], total, is_first and i == 0)
        return
    stop = left.shape[2]
    turned = left.swapaxes(1, 2)
    if is_first:
        np.matmul(turned, right, out=total[:, :stop])
        total[:, stop:] = 0
    else:
        np.add(total[:, :stop], np.matmul(turned, right), total[:, :stop])
