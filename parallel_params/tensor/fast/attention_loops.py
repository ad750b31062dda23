"""Attention of small heads, forward and backward, each in one compiled call.

One band of queries after the other, while its scores lie in the cache.
"""

import numpy as np

from parallel_params.tensor.fast.attention_bands import (
    BATCH,
    DK,
    DQ,
    DV,
    FIRST,
    GRAD,
    HEADS,
    IS_CAUSAL,
    IS_KEPT,
    KEYS,
    NUM,
    OUT,
    SHARE,
    STRIDE,
    VALUE_WIDTH,
    WIDTH,
    K,
    Q,
    V,
    add_to_keys,
    from_keys,
    rows_at,
    slopes_of_band,
    soften_band,
    to_keys,
    weigh_seen,
)
from parallel_params.tensor.fast.compiler import Element, called, compiled
from parallel_params.tensor.fast.products import clear, copy, rows_of, turn
from parallel_params.tensor.fast.vectors import row_at
from parallel_params.tensor.tape import Array


@called
def _attend(
    places: Array,
    bands: Array,
    sizes: Array,
    scale: Element,
    saved: Array,
    scratch: tuple[Array, Array, Array],
    b: int,
    h: int,
    is_careful: bool,
) -> None:
    """Write attention of one head."""
    turned, values, p = scratch
    head, width = b * sizes[HEADS] + h, sizes[VALUE_WIDTH]
    kept = saved[head] if sizes[IS_KEPT] else p
    for band in bands:
        first = band[FIRST]
        if sizes[IS_KEPT]:
            p, kept = kept[: band[NUM] * band[STRIDE]], kept[band[NUM] * band[STRIDE] :]
        queries = rows_at(places, Q, b, h, first)
        to_keys(queries, turned, sizes[WIDTH], p, band, sizes)
        soften_band(p, band, sizes, scale, saved[head, first:])
        into = rows_at(places, OUT, b, h, first)
        if is_careful:
            weigh_seen(p, values, width, into, band, sizes)
        else:
            from_keys(p, values, width, into, band, sizes)


@called
def _is_finite(row: Array) -> bool:
    is_finite = True
    for x in row:
        is_finite = is_finite and np.isfinite(x)
    return is_finite


@compiled(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], T, T[:, ::1], T[:, ::1],"
    " T[:, ::1], T[::1])"
)
def attend(
    places: Array,
    bands: Array,
    sizes: Array,
    scale: Element,
    saved: Array,
    turned: Array,
    values: Array,
    p: Array,
) -> None:
    """Write attention, and what its sweep needs.

    Args:
        places: [4, 4] where queries, keys, values and the result lie.
        bands: [bands, 4].
        sizes: [8].
        scale: what scores are multiplied by.
        saved: [heads, numbers] receives probabilities or logarithms.
        turned: [width, keys at least] scratch memory.
        values: [keys, width of values at least] scratch memory.
        p: [BAND * keys at least] scratch memory, where probabilities are not kept.
    """
    keys, width = sizes[KEYS], sizes[VALUE_WIDTH]
    scratch = turned, values, p
    for b in range(sizes[BATCH]):
        for h in range(sizes[HEADS]):
            if h % sizes[SHARE] == 0:
                group = h // sizes[SHARE]
                turn(rows_at(places, K, b, group, 0), keys, sizes[WIDTH], turned)
                copy(rows_at(places, V, b, group, 0), keys, width, values)
            # The last query sees all that any query does.
            last = rows_at(places, OUT, b, h, bands[-1, FIRST] + bands[-1, NUM] - 1)
            out = row_at(turned[0, 0], last[0], width)
            for is_careful in (False, True):
                _attend(places, bands, sizes, scale, saved, scratch, b, h, is_careful)
                if not sizes[IS_CAUSAL] or _is_finite(out):
                    break


@called
def _attend_back(
    places: Array,
    bands: Array,
    sizes: Array,
    scale: Element,
    saved: Array,
    turned: tuple[Array, Array],
    own: tuple[Array, Array, Array],
    scratch: tuple[Array, Array],
    b: int,
    h: int,
) -> None:
    """Write the gradient of one head's queries, add those of keys and values."""
    (p, d), (own_q, own_k, own_g) = scratch, own
    head, group = b * sizes[HEADS] + h, h // sizes[SHARE]
    width, value_width = sizes[WIDTH], sizes[VALUE_WIDTH]
    kept = saved[head] if sizes[IS_KEPT] else p
    dk, dv = rows_at(places, DK, b, group, 0), rows_at(places, DV, b, group, 0)
    for band in bands:
        first, numel = band[FIRST], band[NUM] * band[STRIDE]
        copy(rows_at(places, Q, b, h, first), band[NUM], width, own_q)
        copy(rows_at(places, GRAD, b, h, first), band[NUM], value_width, own_g)
        if sizes[IS_KEPT]:
            p, kept = kept[:numel], kept[numel:]
        else:
            to_keys(rows_of(own_q), turned[1], width, p, band, sizes)
        to_keys(rows_of(own_g), turned[0], value_width, d, band, sizes)
        slopes_of_band(p, d, band, sizes, scale, saved[head, first:])
        into = rows_at(places, DQ, b, h, first)
        from_keys(d, own_k, width, into, band, sizes)
        add_to_keys(d, own_q, width, dk, band, sizes)
        add_to_keys(p, own_g, value_width, dv, band, sizes)


@compiled(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], T, T[:, ::1], T[:, ::1],"
    " T[:, ::1], T[:, ::1], T[:, ::1], T[:, ::1], T[::1], T[::1])"
)
def attend_back(
    places: Array,
    bands: Array,
    sizes: Array,
    scale: Element,
    saved: Array,
    turned_v: Array,
    turned_k: Array,
    own_q: Array,
    own_k: Array,
    own_g: Array,
    p: Array,
    d: Array,
) -> None:
    """Write the gradients of attention.

    Args:
        places: [7, 4] where queries, keys, values, the gradient of the result and the
            gradients of the three lie.
        bands: [bands, 4].
        sizes: [8].
        scale: as forward had it.
        saved: as forward left it.
        turned_v: [width of values, keys at least] scratch memory.
        turned_k: [width, keys at least] likewise.
        own_q: [BAND, width at least] likewise.
        own_k: [keys, width at least] likewise.
        own_g: [BAND, width of values at least] likewise.
        p: [BAND * keys at least] likewise.
        d: as p.
    """
    keys, width, value_width = sizes[KEYS], sizes[WIDTH], sizes[VALUE_WIDTH]
    turned, own, scratch = (turned_v, turned_k), (own_q, own_k, own_g), (p, d)
    for b in range(sizes[BATCH]):
        for h in range(sizes[HEADS]):
            if h % sizes[SHARE] == 0:
                group = h // sizes[SHARE]
                k, v = rows_at(places, K, b, group, 0), rows_at(places, V, b, group, 0)
                copy(k, keys, width, own_k)
                turn(v, keys, value_width, turned_v)
                if not sizes[IS_KEPT]:
                    turn(k, keys, width, turned_k)
                clear(rows_at(places, DK, b, group, 0), keys, width, scale)
                clear(rows_at(places, DV, b, group, 0), keys, value_width, scale)
            _attend_back(places, bands, sizes, scale, saved, turned, own, scratch, b, h)
