"""Products of matrices that lie in the cache, out of blocks of sums in registers.

BLAS packs both operands first, which for matrices of some hundred rows takes about as
long as the product. Here the right one is read as it lies: its rows should fill an odd
number of cache lines, or they compete for the same places in the cache; `copy` and
`turn` bring them there.

A matrix that may lie anywhere comes as an address and strides in bytes: Numba would
compile anew for each way to lie. Every sum of a call runs over k in order, each product
and its sum rounded once, whatever is computed beside it.
"""

from typing import TypeAlias

from parallel_params.tensor.fast.compiler import Element, called
from parallel_params.tensor.fast.vectors import (
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    add_block,
    copy_vectors,
    row_at,
    turn_block,
)
from parallel_params.tensor.tape import Array

# Address of a matrix, bytes from row to row, and from column to column.
Left: TypeAlias = tuple[int, int, int]
# The same of one whose rows have unit stride.
Rows: TypeAlias = tuple[int, int]


@called
def rows_of(array: Array) -> Rows:
    """Return where a matrix in C order lies."""
    return array.ctypes.data, array.strides[0]


@called
def product(
    a: Left,
    b: Rows,
    c: Rows,
    shape: tuple[int, int, int],
    limits: tuple[int, int, int],
    like: Array,
    is_fresh: bool,
) -> None:
    """Write a @ b to c, or add it; leave out what is not needed.

    Args:
        a: [rows, num].
        b: [num, columns].
        c: [rows, columns].
        shape: rows, columns, num; columns are whole vectors.
        limits: row i needs the columns before limits[0] + i; in its sum a is 0 from
            limits[1] + i on, and before i - limits[2]. A few more are computed.
        like: any array of the element type.
        is_fresh: whether to write.
    """
    rows, columns, num = shape
    zero, size = like.dtype.type(0), like.itemsize
    vector = VECTOR_BYTES // size
    for i in range(0, rows, ROWS):
        last = min(ROWS, rows - i) - 1
        wide = min(columns, limits[0] + i + last)
        start = max(0, i - limits[2])
        deep = min(num, limits[1] + i + last) - start
        left = a[0] + i * a[1] + start * a[2], a[1], a[2]
        right, into = b[0] + start * b[1], c[0] + i * c[1]
        for j in range(0, wide, VECTORS * vector):
            at = j * size
            # Where only one vector is left, both are that one.
            second = min(vector, columns - vector - j) * size
            own, place = (right + at, b[1]), (into + at, c[1])
            add_block(zero, *left, *own, *place, last, second, deep, is_fresh)


@called
def clear(rows: Rows, num: int, width: int, like: Element) -> None:
    """Set rows to 0."""
    for i in range(num):
        row_at(like, rows[0] + i * rows[1], width)[:] = 0


@called
def copy(rows: Rows, num: int, width: int, into: Array) -> None:
    """Copy rows of whole vectors to the first columns of a matrix in C order."""
    zero, vectors = into.dtype.type(0), width * into.itemsize // VECTOR_BYTES
    own, step = rows_of(into)
    for i in range(num):
        copy_vectors(zero, rows[0] + i * rows[1], own + i * step, vectors)


@called
def turn(rows: Rows, num: int, width: int, into: Array) -> None:
    """Copy rows of whole vectors to columns; the last row fills the last vector."""
    zero, size = into.dtype.type(0), into.itemsize
    own, step = rows_of(into)
    vector = VECTOR_BYTES // size
    for i in range(0, num, vector):
        last = min(vector, num - i) - 1
        at = rows[0] + i * rows[1]
        for j in range(0, width, vector):
            place = own + j * step + i * size
            turn_block(zero, at + j * size, rows[1], last, place, step)
