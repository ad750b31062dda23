"""What is done to a band of the queries of a head: products, softmax, its derivative.

Under a causal mask, blocks of a product that no query sees are left out. The scores of
a band lie one row after the other, each filled up to whole vectors; what a query does
not see has the probability 0.
"""

import numpy as np

from parallel_params.tensor.fast.compiler import Element, called, fused
from parallel_params.tensor.fast.products import (
    Rows,
    product,
    rows_of,
)
from parallel_params.tensor.fast.score_loops import (
    slope_of_scores,
    soften,
    soften_again,
)
from parallel_params.tensor.fast.vectors import row_at
from parallel_params.tensor.tape import Array

# Queries of a band, a multiple of `ROWS`: more take room from the rest in the cache,
# fewer go more often through the gradients of keys and values.
BAND = 48
FAR = 1 << 40  # a limit of a product that is none
# What `sizes` holds. Heads are those of queries, as many as `SHARE` have one of keys.
BATCH, HEADS, SHARE, KEYS, WIDTH, VALUE_WIDTH, IS_CAUSAL, IS_KEPT = range(8)
# What `bands` holds of each: its first query, how many it has, how many keys its last
# one sees, and how many elements a row of its probabilities takes: whole vectors.
FIRST, NUM, STOP, STRIDE = range(4)
# The rows of `places`: address, and strides of batch, head and position in bytes.
Q, K, V, OUT = range(4)
GRAD, DQ, DK, DV = range(3, 7)


@called
def rows_at(places: Array, which: int, b: int, h: int, first: int) -> Rows:
    """Return where a head of an operand lies, from a position on."""
    at = places[which]
    return at[0] + b * at[1] + h * at[2] + first * at[3], at[3]


@called
def _num_seen(band: Array, i: int, sizes: Array) -> int:
    """Return how many keys a query of a band sees."""
    stop: int = band[STOP]
    return min(band[FIRST] + i + 1, stop) if sizes[IS_CAUSAL] else stop


@called
def _before(band: Array, sizes: Array) -> int:
    """Return how many keys the first query of a band sees before its own."""
    first: int = band[FIRST]
    return first if sizes[IS_CAUSAL] else FAR


@called
def to_keys(
    rows: Rows, turned: Array, width: int, p: Array, band: Array, sizes: Array
) -> None:
    """Write the products of a band's rows with all that its queries see."""
    size, stride = p.itemsize, band[STRIDE]
    limits = _before(band, sizes) + 1, FAR, FAR
    shape = band[NUM], stride, width
    left, into = (rows[0], rows[1], size), (p.ctypes.data, stride * size)
    product(left, rows_of(turned), into, shape, limits, p, True)


@called
def from_keys(
    p: Array, right: Array, width: int, into: Rows, band: Array, sizes: Array
) -> None:
    """Write what a band's queries see, weighed by its rows."""
    size = p.itemsize
    limits = FAR, _before(band, sizes) + 1, FAR
    shape = band[NUM], width, band[STOP]
    left = p.ctypes.data, band[STRIDE] * size, size
    product(left, rows_of(right), into, shape, limits, p, True)


@called
def add_to_keys(
    p: Array, right: Array, width: int, into: Rows, band: Array, sizes: Array
) -> None:
    """Add rows of a band, weighed by its columns, to what its queries see."""
    size = p.itemsize
    limits = FAR, FAR, _before(band, sizes)
    shape = band[STOP], width, band[NUM]
    left = p.ctypes.data, size, band[STRIDE] * size
    product(left, rows_of(right), into, shape, limits, p, False)


@called
def soften_band(
    p: Array, band: Array, sizes: Array, scale: Element, logs: Array
) -> None:
    """Take the softmax of scores; write the logarithms of sums where p is not kept."""
    stride = band[STRIDE]
    scratch = np.empty(stride, p.dtype)
    for i in range(band[NUM]):
        row, stop = p[i * stride : (i + 1) * stride], _num_seen(band, i, sizes)
        log = soften(row, stop, scale, scratch)
        if not sizes[IS_KEPT]:
            logs[i] = log


@called
def weigh_seen(
    p: Array, values: Array, width: int, into: Rows, band: Array, sizes: Array
) -> None:
    """Do what `from_keys` does, to the bit, and touch nothing that is not seen."""
    for i in range(band[NUM]):
        out = row_at(p[0], into[0] + i * into[1], width)
        for j in range(width):
            found = p.dtype.type(0)
            for k in range(_num_seen(band, i, sizes)):
                found = fused(p[i * band[STRIDE] + k], values[k, j], found)
            out[j] = found


@called
def slopes_of_band(
    p: Array, d: Array, band: Array, sizes: Array, scale: Element, logs: Array
) -> None:
    """Take the gradients of scores; make p again where it is not kept."""
    stride = band[STRIDE]
    scratch = np.empty(stride, p.dtype)
    for i in range(band[NUM]):
        at, stop = i * stride, _num_seen(band, i, sizes)
        row, slope = p[at : at + stride], d[at : at + stride]
        if not sizes[IS_KEPT]:
            soften_again(row, stop, scale, logs[i], scratch)
        slope_of_scores(row, slope, scale, stop)
