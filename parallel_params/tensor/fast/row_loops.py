"""The compiled loops that need exponentials, or sums over rows.

Sums over a row run in eight lanes that are added up in one fixed tree, so they have the
same bits whatever vector registers the processor has.
"""

import numpy as np

from parallel_params.tensor.fast.compiler import Element, compiled, inlined
from parallel_params.tensor.fast.exponential import exp
from parallel_params.tensor.tape import Array


@inlined
def _largest(row: Array) -> Element:
    """Return the largest number of a row; what it is beside a NaN is left open."""
    n = row.size
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = row[0]
    whole = n - n % 8
    for i in range(0, whole, 8):
        a0, a1 = max(a0, row[i]), max(a1, row[i + 1])
        a2, a3 = max(a2, row[i + 2]), max(a3, row[i + 3])
        a4, a5 = max(a4, row[i + 4]), max(a5, row[i + 5])
        a6, a7 = max(a6, row[i + 6]), max(a7, row[i + 7])
    top = max(max(max(a0, a1), max(a2, a3)), max(max(a4, a5), max(a6, a7)))
    for i in range(whole, n):
        top = max(top, row[i])
    return top


@inlined
def _sum(row: Array) -> Element:
    """Return the sum of a row, in eight lanes and a fixed tree over them."""
    n = row.size
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = row.dtype.type(0)
    whole = n - n % 8
    for i in range(0, whole, 8):
        a0, a1 = a0 + row[i], a1 + row[i + 1]
        a2, a3 = a2 + row[i + 2], a3 + row[i + 3]
        a4, a5 = a4 + row[i + 4], a5 + row[i + 5]
        a6, a7 = a6 + row[i + 6], a7 + row[i + 7]
    total = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))
    for i in range(whole, n):
        total = total + row[i]
    return total


@inlined
def _dot(row: Array, other: Array) -> Element:
    """Return the sum of the products of two rows, in the order of `_sum`."""
    n = row.size
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = row.dtype.type(0)
    whole = n - n % 8
    for i in range(0, whole, 8):
        a0, a1 = a0 + row[i] * other[i], a1 + row[i + 1] * other[i + 1]
        a2, a3 = a2 + row[i + 2] * other[i + 2], a3 + row[i + 3] * other[i + 3]
        a4, a5 = a4 + row[i + 4] * other[i + 4], a5 + row[i + 5] * other[i + 5]
        a6, a7 = a6 + row[i + 6] * other[i + 6], a7 + row[i + 7] * other[i + 7]
    total = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))
    for i in range(whole, n):
        total = total + row[i] * other[i]
    return total


@inlined
def _whole_vectors(num: int, length: int) -> int:
    """Return the number of elements of `length` that vectors take to see `num`."""
    return min(num + -num % 32, length)


@compiled("void(T[:, ::1], T, int64, int64, T[::1])")
def probabilities(
    e: Array, scale: float, num_seen: int, num_rows: int, log: Array
) -> None:
    """Take the softmax of e * scale, in row i of num_rows of num_seen + i numbers."""
    zero, one = e.dtype.type(0), e.dtype.type(1)
    for i in range(e.shape[0]):
        row = e[i]
        stop = min(num_seen + i % num_rows, row.size)
        top = _largest(row[:stop]) * scale
        if top == -np.inf:
            row[:] = zero
            log[i] = zero
            continue
        wide = row[: _whole_vectors(stop, row.size)]
        for j in range(wide.size):
            wide[j] = exp(wide[j] * scale - top)
        row[stop:] = zero
        total = _sum(wide)
        log[i] = top + np.log(total)
        factor = one / total
        for j in range(wide.size):
            wide[j] = wide[j] * factor


@inlined
def _slope(row: Array, slope: Array, scale: float, stop: int) -> None:
    """Take (slope - sum(slope * row)) * row * scale in place; 0 from `stop` on."""
    shift = _dot(row[:stop], slope[:stop])
    for j in range(_whole_vectors(stop, row.size)):
        slope[j] = (slope[j] - shift) * row[j] * scale
    slope[stop:] = slope.dtype.type(0)


@compiled("void(T[:, ::1], T[:, ::1], T[::1], T, int64, int64)")
def slopes(
    p: Array, d: Array, logs: Array, scale: float, num_seen: int, num_rows: int
) -> None:
    """Take exp(p * scale - log) in place, and then the gradients of the scores."""
    for i in range(p.shape[0]):
        log, row = logs[i], p[i]
        stop = min(num_seen + i % num_rows, row.size)
        for j in range(_whole_vectors(stop, row.size)):
            row[j] = exp(row[j] * scale - log)
        row[stop:] = p.dtype.type(0)
        _slope(row, d[i], scale, stop)


@compiled("void(T[:, ::1], T[:, ::1], T, int64, int64)")
def kept_slopes(p: Array, d: Array, scale: float, num_seen: int, num_rows: int) -> None:
    """Take the gradients of the scores."""
    for i in range(p.shape[0]):
        stop = min(num_seen + i % num_rows, p.shape[1])
        _slope(p[i], d[i], scale, stop)
