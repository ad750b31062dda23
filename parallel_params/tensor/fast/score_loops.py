"""The compiled loops of attention: probabilities, and gradients of scores."""

import numpy as np

from parallel_params.tensor.fast.compiler import Element, compiled, inlined
from parallel_params.tensor.fast.exponential import bounded, parts, power
from parallel_params.tensor.fast.reductions import dot, largest, total
from parallel_params.tensor.tape import Array


@inlined
def _whole_vectors(num: int, length: int) -> int:
    """Return the number of elements of `length` that vectors take to see `num`."""
    return min(num + -num % 32, length)


@inlined
def _exp_of_scores(row: Array, scale: Element, top: Element, scratch: Array) -> None:
    """Take exp(row * scale - top) in place, see `exp_of_row`."""
    for j in range(row.size):
        row[j], scratch[j] = parts(bounded(row[j] * scale - top))
    for j in range(row.size):
        row[j] = power(row[j], scratch[j])


@inlined
def soften(row: Array, stop: int, scale: Element, scratch: Array) -> Element:
    """Take the softmax of the first `stop` scores times `scale`; the others become 0.

    Args:
        row: at least one score.
        stop: at least 1.
        scale: at least 0.
        scratch: as long as the row.

    Returns:
        The logarithm of the sum of the exponentials; 0 if all scores are -infinity,
        whose probabilities are 0.
    """
    zero = row.dtype.type(0)
    top, log = largest(row[:stop]) * scale, zero
    if top == -np.inf:
        row[:] = zero
    else:
        wide = row[: _whole_vectors(stop, row.size)]
        _exp_of_scores(wide, scale, top, scratch)
        row[stop:] = zero
        mass = total(wide)
        log = top + np.log(mass)
        factor = row.dtype.type(1) / mass
        for j in range(wide.size):
            wide[j] = wide[j] * factor
    return log


@inlined
def soften_again(
    row: Array, stop: int, scale: Element, log: Element, scratch: Array
) -> None:
    """Do what `soften` did, from the logarithm that it returned."""
    _exp_of_scores(row[: _whole_vectors(stop, row.size)], scale, log, scratch)
    row[stop:] = row.dtype.type(0)


@inlined
def slope_of_scores(row: Array, slope: Array, scale: Element, stop: int) -> None:
    """Take (slope - sum(slope * row)) * row * scale in place; 0 from `stop` on."""
    shift = dot(row[:stop], slope[:stop])
    for j in range(_whole_vectors(stop, row.size)):
        slope[j] = (slope[j] - shift) * row[j] * scale
    slope[stop:] = slope.dtype.type(0)


@compiled("void(T[:, ::1], T, int64, int64, T[::1])")
def probabilities(
    e: Array, scale: float, num_seen: int, num_rows: int, log: Array
) -> None:
    """Take the softmax of e * scale, in row i of num_rows of num_seen + i numbers."""
    scratch = np.empty(e.shape[1], e.dtype)
    for i in range(e.shape[0]):
        stop = min(num_seen + i % num_rows, e.shape[1])
        log[i] = soften(e[i], stop, scale, scratch)


@compiled("void(T[:, ::1], T[:, ::1], T[::1], T, int64, int64)")
def slopes(
    p: Array, d: Array, logs: Array, scale: float, num_seen: int, num_rows: int
) -> None:
    """Take exp(p * scale - log) in place, and then the gradients of the scores."""
    scratch = np.empty(p.shape[1], p.dtype)
    for i in range(p.shape[0]):
        stop = min(num_seen + i % num_rows, p.shape[1])
        soften_again(p[i], stop, scale, logs[i], scratch)
        slope_of_scores(p[i], d[i], scale, stop)


@compiled("void(T[:, ::1], T[:, ::1], T, int64, int64)")
def kept_slopes(p: Array, d: Array, scale: float, num_seen: int, num_rows: int) -> None:
    """Take the gradients of the scores."""
    for i in range(p.shape[0]):
        stop = min(num_seen + i % num_rows, p.shape[1])
        slope_of_scores(p[i], d[i], scale, stop)
