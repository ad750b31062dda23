"""The compiled loops whose elements do not see each other, or only in one order.

They have the bits of NumPy's forms.
"""

import numpy as np

from parallel_params.tensor.fast.compiler import compiled
from parallel_params.tensor.tape import Array


@compiled("void(T[:, ::1], T[::1])")
def add_bias(x: Array, bias: Array) -> None:
    """Add the bias to every row of x."""
    for i in range(x.shape[0]):
        row = x[i]
        for j in range(row.size):
            row[j] = row[j] + bias[j]


@compiled("void(T[:, ::1], T[::1])")
def bias_relu(x: Array, bias: Array) -> None:
    """Add the bias to every row of x, and put 0 for what is negative then."""
    zero = x.dtype.type(0)
    for i in range(x.shape[0]):
        row = x[i]
        for j in range(row.size):
            value = row[j] + bias[j]
            row[j] = zero if value < zero else value


@compiled("void(T[:, ::1], T[:, ::1], T[:, ::1])")
def relu_slope(out: Array, g: Array, into: Array) -> None:
    """Write g where out is not 0 and 0 * g elsewhere, as NumPy's form does."""
    zero, one = out.dtype.type(0), out.dtype.type(1)
    y, grad, flat = out.reshape(-1), g.reshape(-1), into.reshape(-1)
    for i in range(y.size):
        flat[i] = (zero if y[i] == zero else one) * grad[i]


@compiled("void(T[:, ::1], T[::1])")
def sum_of_rows(x: Array, out: Array) -> None:
    """Add the rows of x up, from the first to the last."""
    for j in range(out.size):
        out[j] = 0
    for i in range(x.shape[0]):
        row = x[i]
        for j in range(row.size):
            out[j] = out[j] + row[j]


@compiled("void(int64[::1], T[:, ::1], T[:, ::1])")
def add_rows(ids: Array, g: Array, out: Array) -> None:
    """Set out[i] to the sum of all g[k] with ids[k] == i, in the order of k."""
    is_new = np.ones(out.shape[0], np.bool_)
    for k in range(ids.size):
        owner = ids[k]
        row, into = g[k], out[owner]
        if is_new[owner]:
            is_new[owner] = False
            for j in range(row.size):
                into[j] = row[j]
        else:
            for j in range(row.size):
                into[j] = into[j] + row[j]
    zero = out.dtype.type(0)
    for i in range(out.shape[0]):
        if is_new[i]:
            into = out[i]
            for j in range(into.size):
                into[j] = zero


@compiled("void(T[::1], T[::1], uint8[::1])")
def larger_of_pairs(x: Array, out: Array, choice: Array) -> None:
    """Write the larger of every two neighbours, and which it was."""
    for i in range(out.size):
        a, b = x[2 * i], x[2 * i + 1]
        choice[i] = b > a
        out[i] = b if b > a or b != b else a


@compiled("void(T[:, ::1], T[:, ::1], uint8[:, ::1])")
def larger_of_rows(x: Array, out: Array, choice: Array) -> None:
    """Write the larger elements of every two rows, and in which they were."""
    for i in range(out.shape[0]):
        first, second, into, which = x[2 * i], x[2 * i + 1], out[i], choice[i]
        for j in range(into.size):
            a, b = first[j], second[j]
            which[j] = b > a
            into[j] = b if b > a or b != b else a


@compiled("void(T[::1], uint8[::1], T[::1])")
def to_pairs(g: Array, choice: Array, dx: Array) -> None:
    """Write g to the neighbour that was chosen, and what remains of it to the other."""
    kind = g.dtype.type
    for i in range(g.size):
        part = g[i] * kind(choice[i])
        dx[2 * i + 1] = part
        dx[2 * i] = g[i] - part


@compiled("void(T[:, ::1], uint8[:, ::1], T[:, ::1])")
def to_rows(g: Array, choice: Array, dx: Array) -> None:
    """Write g to the row that was chosen, and what remains of it to the other."""
    kind = g.dtype.type
    for i in range(g.shape[0]):
        grad, which, first, second = g[i], choice[i], dx[2 * i], dx[2 * i + 1]
        for j in range(grad.size):
            part = grad[j] * kind(which[j])
            second[j] = part
            first[j] = grad[j] - part
