"""The compiled loops of attention: probabilities, and gradients of scores."""

import numpy as np

from parallel_params.tensor.fast.compiler import compiled, inlined
from parallel_params.tensor.fast.exponential import exp
from parallel_params.tensor.fast.reductions import dot, largest, total
from parallel_params.tensor.tape import Array


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
        top = largest(row[:stop]) * scale
        if top == -np.inf:
            row[:] = zero
            log[i] = zero
            continue
        wide = row[: _whole_vectors(stop, row.size)]
        for j in range(wide.size):
            wide[j] = exp(wide[j] * scale - top)
        row[stop:] = zero
        mass = total(wide)
        log[i] = top + np.log(mass)
        factor = one / mass
        for j in range(wide.size):
            wide[j] = wide[j] * factor


@inlined
def _slope(row: Array, slope: Array, scale: float, stop: int) -> None:
    """Take (slope - sum(slope * row)) * row * scale in place; 0 from `stop` on."""
    shift = dot(row[:stop], slope[:stop])
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
