"""Products of few rows with a large weight, which is read where it lies.

BLAS packs both operands and clears a result before it adds to it: with a hundred rows
that is a third of its time. Here rows are brought to panels, as wide as a block of
sums, which stay in the L1 cache. Every sum runs over k in order, each product and its
sum rounded once, and those of `DEPTH` products each are added up: a row has the same
bits whatever rows come with it.
"""

from parallel_params.tensor.fast.compiler import called, compiled
from parallel_params.tensor.fast.products import rows_of
from parallel_params.tensor.fast.vectors import (
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    add_block,
    copy_vectors,
    row_at,
    settle,
    stream_vectors,
    turn_block,
)
from parallel_params.tensor.tape import Array

PANEL_BYTES = VECTORS * VECTOR_BYTES  # of a row of a panel
DEPTH = 256  # rows of a panel: with float32, half of an L1 cache
BAND = 48  # rows of a weight at once, a multiple of `ROWS` and of a vector
SPAN_BYTES = 8192  # of a row of a gradient at once


@called
def _turn_to_panels(x: Array, first: int, deep: int, into: int) -> None:
    """Write columns of x as rows of panels; its last row fills the last panel."""
    zero, size = x.dtype.type(0), x.itemsize
    vector, width = VECTOR_BYTES // size, PANEL_BYTES // size
    own, step = rows_of(x)
    for i in range(0, -(-len(x) // width) * width, vector):
        row = min(i, len(x) - 1)
        last = min(vector, len(x) - row) - 1
        at = own + row * step + first * size
        place = into + i // width * deep * PANEL_BYTES + i % width * size
        for k in range(0, deep, vector):
            to = place + k * PANEL_BYTES
            turn_block(zero, at + k * size, step, last, to, PANEL_BYTES)


@called
def _turn_back(turned: Array, num: int, first: int, out: Array) -> None:
    """Write rows of [num, rows of out at least] to columns of out."""
    zero, size = out.dtype.type(0), out.itemsize
    vector = VECTOR_BYTES // size
    (at, row), (into, step) = rows_of(turned), rows_of(out)
    whole = len(out) // vector * vector
    for i in range(0, num, vector):
        place = into + (first + i) * size
        for j in range(0, whole, vector):
            own = at + i * row + j * size
            turn_block(zero, own, row, vector - 1, place + j * step, step)
    for j in range(whole, len(out)):
        for i in range(num):
            out[j, first + i] = turned[i, j]


@compiled("void(T[:, ::1], T[:, ::1], T[::1], T[:, ::1], T[:, ::1])")
def times_weight(x: Array, w: Array, panels: Array, turned: Array, out: Array) -> None:
    """Write x @ w.T.

    Args:
        x: [rows, in], in of whole vectors.
        w: [out, in], out of whole vectors.
        panels: [rows, filled up to whole panels, times in] scratch memory.
        turned: [BAND, rows filled up at least] likewise.
        out: [rows, out].
    """
    zero, size = x.dtype.type(0), x.itemsize
    (num, width), wide = w.shape, PANEL_BYTES // size
    filled = -(-len(x) // wide) * wide
    (own, row), (into, step) = rows_of(w), rows_of(turned)
    for k in range(0, width, DEPTH):
        place = panels.ctypes.data + k * filled * size
        _turn_to_panels(x, k, min(DEPTH, width - k), place)
    for first in range(0, num, BAND):
        band = min(BAND, num - first)
        for k in range(0, width, DEPTH):
            deep = min(DEPTH, width - k)
            for j in range(0, filled, wide):
                panel = panels.ctypes.data + (k * filled + j * deep) * size
                for i in range(0, band, ROWS):
                    last = min(ROWS, band - i) - 1
                    a = own + (first + i) * row + k * size
                    c = into + i * step + j * size
                    add_block(
                        zero, a, row, size, panel, PANEL_BYTES, c, step, last,
                        VECTOR_BYTES, deep, k == 0,
                    )  # fmt: skip
        _turn_back(turned, band, first, out)


@called
def _to_left(g: Array, first: int, num: int, into: int) -> None:
    """Write columns of g as panels of `ROWS` each, filled up with 0."""
    zero, size = g.dtype.type(0), g.itemsize
    vectors = -(-ROWS * size // VECTOR_BYTES)
    own, step = rows_of(g)
    for i in range(first, first + num, ROWS):
        place = into + (i - first) * len(g) * size
        if i + vectors * VECTOR_BYTES // size <= g.shape[1]:
            # What is copied too much, the next row replaces.
            for k in range(len(g)):
                at = own + k * step + i * size
                copy_vectors(zero, at, place + k * ROWS * size, vectors)
        else:
            panel = row_at(zero, place, len(g) * ROWS)
            panel[:] = 0
            for k in range(len(g)):
                for j in range(i, min(i + ROWS, g.shape[1])):
                    panel[k * ROWS + j - i] = g[k, j]


@called
def _to_right(x: Array, first: int, num: int, into: int) -> None:
    """Write columns of x, of whole panels, as panels."""
    zero, size = x.dtype.type(0), x.itemsize
    own, step = rows_of(x)
    for j in range(0, num, PANEL_BYTES // size):
        at, place = own + (first + j) * size, into + j * len(x) * size
        for k in range(len(x)):
            copy_vectors(zero, at + k * step, place + k * PANEL_BYTES, VECTORS)


@called
def _stream(row: Array, out: Array) -> None:
    """Copy a row past the cache."""
    zero, size = row.dtype.type(0), row.itemsize
    at, into = row.ctypes.data, out.ctypes.data
    head = min(len(out), -into % VECTOR_BYTES // size)
    vectors = (len(out) - head) * size // VECTOR_BYTES
    tail = head + vectors * VECTOR_BYTES // size
    for i in range(head):
        out[i] = row[i]
    stream_vectors(zero, at + head * size, into + head * size, vectors)
    for i in range(tail, len(out)):
        out[i] = row[i]


@compiled("void(T[:, ::1], T[:, ::1], T[::1], T[::1], T[:, ::1], T[:, ::1])")
def weight_grad(
    g: Array, x: Array, left: Array, right: Array, band: Array, out: Array
) -> None:
    """Write g.T @ x.

    Args:
        g: [rows, out].
        x: [rows, in], in of whole panels.
        left: [rows * BAND and a vector] scratch memory.
        right: [rows * elements of a span at least] likewise.
        band: [BAND, elements of a span at least] likewise.
        out: [out, in].
    """
    zero, size = x.dtype.type(0), x.itemsize
    num, width = out.shape
    (into, step), depth = rows_of(band), len(x)
    for span in range(0, width, SPAN_BYTES // size):
        stop = min(span + SPAN_BYTES // size, width)
        _to_right(x, span, stop - span, right.ctypes.data)
        for first in range(0, num, BAND):
            height = min(BAND, num - first)
            _to_left(g, first, height, left.ctypes.data)
            for j in range(0, stop - span, PANEL_BYTES // size):
                panel = right.ctypes.data + j * depth * size
                for i in range(0, height, ROWS):
                    a = left.ctypes.data + i * depth * size
                    c = into + i * step + j * size
                    add_block(
                        zero, a, size, ROWS * size, panel, PANEL_BYTES, c, step,
                        ROWS - 1, VECTOR_BYTES, depth, True,
                    )  # fmt: skip
            for i in range(height):
                _stream(band[i, : stop - span], out[first + i, span:stop])
    settle()
