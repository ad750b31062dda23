"""The compiled loops of the softmax, its logarithm and the cross-entropy over rows."""

import numpy as np

from parallel_params.tensor.fast.compiler import Element, compiled, inlined
from parallel_params.tensor.fast.exponential import exp_of_row
from parallel_params.tensor.fast.reductions import largest, total
from parallel_params.tensor.tape import Array


@compiled("void(T[:, ::1], T[:, ::1])")
def softmax(x: Array, out: Array) -> None:
    """Write the softmax of every row."""
    one, scratch = x.dtype.type(1), np.empty(x.shape[1], x.dtype)
    for i in range(x.shape[0]):
        row, e = x[i], out[i]
        top = largest(row)
        exp_of_row(row, top, e, scratch)
        factor = one / total(e)
        for j in range(row.size):
            e[j] = e[j] * factor


@compiled("void(T[:, ::1], T[:, ::1])")
def log_softmax(x: Array, out: Array) -> None:
    """Write the logarithm of the softmax of every row."""
    scratch = np.empty(x.shape[1], x.dtype)
    for i in range(x.shape[0]):
        row, e = x[i], out[i]
        top = largest(row)
        exp_of_row(row, top, e, scratch)
        rest = np.log(total(e))
        for j in range(row.size):
            e[j] = (row[j] - top) - rest


@inlined
def _entropy(row: Array, label: int, e: Array, scale: float, scratch: Array) -> Element:
    top, told = largest(row), row[label]
    exp_of_row(row, top, e, scratch)
    mass = total(e)
    factor = scale / mass
    for j in range(row.size):
        e[j] = e[j] * factor
    e[label] = e[label] - scale
    return top - told + np.log(mass)


@compiled("void(T[:, ::1], int64[::1], T[:, ::1], T, T[::1])")
def cross_entropy(
    x: Array, labels: Array, grad: Array, scale: float, losses: Array
) -> None:
    """Write log(sum(exp(row))) - row[label], and its gradient times `scale`."""
    scratch = np.empty(x.shape[1], x.dtype)
    for i in range(x.shape[0]):
        losses[i] = _entropy(x[i], labels[i], grad[i], scale, scratch)


@compiled("void(T[:, ::1], int64[::1], T, T[::1])")
def cross_entropy_in_place(
    x: Array, labels: Array, scale: float, losses: Array
) -> None:
    """The same where the gradient is x: one array, or no loop would be vectorised."""
    scratch = np.empty(x.shape[1], x.dtype)
    for i in range(x.shape[0]):
        losses[i] = _entropy(x[i], labels[i], x[i], scale, scratch)


@compiled("boolean(T[:, ::1], int64[::1], T[:, ::1], T, Array(T, 0, 'C'))")
def cross_entropy_sum(
    x: Array, labels: Array, grad: Array, scale: float, loss: Array
) -> bool:
    """Write the sum of all, times `scale`; return False if a label is out of range."""
    for i in range(labels.size):
        if not 0 <= labels[i] < x.shape[1]:
            return False
    losses, scratch = np.empty(x.shape[0], x.dtype), np.empty(x.shape[1], x.dtype)
    for i in range(x.shape[0]):
        losses[i] = _entropy(x[i], labels[i], grad[i], scale, scratch)
    loss[()] = total(losses) * scale
    return True
