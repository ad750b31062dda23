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


@compiled("void(T[:, ::1], T[::1], T[:, ::1], boolean, T[::1])")
def bias_gelu(
    x: Array, bias: Array, slope: Array, has_slope: bool, constants: Array
) -> None:
    """Take gelu(x + bias) in the tanh form in place, and write its derivative.

    In place only: were there another array for the result, it could overlap with x, and
    then the compiled loop would go element by element.
    """
    one = x.dtype.type(1)
    a, cubic = constants[0], constants[1]  # of 2 u = a y + cubic y^3
    for i in range(x.shape[0]):
        row = x[i]
        if not has_slope:
            for j in range(row.size):
                y = row[j] + bias[j]
                row[j] = y * (one / (one + exp(-((y * y * cubic + a) * y))))
            continue
        derivative = slope[i]
        for j in range(row.size):
            y = row[j] + bias[j]
            square = y * y * cubic
            share = one / (one + exp(-((square + a) * y)))  # (1 + tanh(u)) / 2
            steep = (square + square + square + a) * y
            derivative[j] = steep * share * (one - share) + share
            row[j] = y * share


@compiled("void(T[:, ::1], T[:, ::1])")
def softmax(x: Array, out: Array) -> None:
    """Write the softmax of every row."""
    one = x.dtype.type(1)
    for i in range(x.shape[0]):
        row, e = x[i], out[i]
        top = _largest(row)
        for j in range(row.size):
            e[j] = exp(row[j] - top)
        factor = one / _sum(e)
        for j in range(row.size):
            e[j] = e[j] * factor


@compiled("void(T[:, ::1], T[:, ::1])")
def log_softmax(x: Array, out: Array) -> None:
    """Write the logarithm of the softmax of every row."""
    for i in range(x.shape[0]):
        row, e = x[i], out[i]
        top = _largest(row)
        for j in range(row.size):
            e[j] = exp(row[j] - top)
        rest = np.log(_sum(e))
        for j in range(row.size):
            e[j] = (row[j] - top) - rest


@compiled("void(T[:, ::1], T[:, ::1], T[:, ::1])")
def softmax_slope(g: Array, out: Array, into: Array) -> None:
    """Write out * (g - sum(g * out)) for every row."""
    for i in range(g.shape[0]):
        grad, probability, row = g[i], out[i], into[i]
        total = _dot(grad, probability)
        for j in range(row.size):
            row[j] = probability[j] * (grad[j] - total)


@inlined
def _entropy(row: Array, label: int, e: Array, scale: float) -> Element:
    top, told = _largest(row), row[label]
    for j in range(row.size):
        e[j] = exp(row[j] - top)
    total = _sum(e)
    factor = scale / total
    for j in range(row.size):
        e[j] = e[j] * factor
    e[label] = e[label] - scale
    return top - told + np.log(total)


@compiled("void(T[:, ::1], int64[::1], T[:, ::1], T, T[::1])")
def cross_entropy(
    x: Array, labels: Array, grad: Array, scale: float, losses: Array
) -> None:
    """Write log(sum(exp(row))) - row[label], and its gradient times `scale`."""
    for i in range(x.shape[0]):
        losses[i] = _entropy(x[i], labels[i], grad[i], scale)


@compiled("void(T[:, ::1], int64[::1], T, T[::1])")
def cross_entropy_in_place(
    x: Array, labels: Array, scale: float, losses: Array
) -> None:
    """The same where the gradient is x: one array, or no loop would be vectorised."""
    for i in range(x.shape[0]):
        losses[i] = _entropy(x[i], labels[i], x[i], scale)


@compiled("void(T[:, ::1], T[::1], T[::1], T, T[:, ::1], T[::1], T[::1], boolean)")
def norm(
    x: Array,
    weight: Array,
    bias: Array,
    epsilon: float,
    out: Array,
    mean: Array,
    scale: Array,
    has_mean: bool,
) -> None:
    """Write (x - mean) * scale * weight + bias, row by row."""
    one = x.dtype.type(1)
    share = one / x.dtype.type(x.shape[1])
    middle = x.dtype.type(0)
    for i in range(x.shape[0]):
        row, into = x[i], out[i]
        if has_mean:
            middle = _sum(row) * share
            mean[i] = middle
        for j in range(row.size):
            into[j] = row[j] - middle
        root = np.sqrt(_dot(into, into) * share + epsilon)
        factor = (root - root + one) / root  # no number if root is infinite
        scale[i] = factor
        for j in range(row.size):
            into[j] = into[j] * factor * weight[j] + bias[j]


@compiled(
    "void(T[:, ::1], T[:, ::1], T[::1], T[::1], T[::1], T[:, ::1], T[::1], T[::1],"
    " boolean, boolean)"
)
def norm_grads(
    g: Array,
    x: Array,
    weight: Array,
    mean: Array,
    scale: Array,
    dx: Array,
    dweight: Array,
    dbias: Array,
    has_mean: bool,
    wants_dx: bool,
) -> None:
    """Write the gradient of the input; add those of weight and bias up over rows."""
    width = x.shape[1]
    share = x.dtype.type(1) / x.dtype.type(width)
    middle = shift = x.dtype.type(0)
    normal, product = np.empty_like(dweight), np.empty_like(dweight)
    for i in range(x.shape[0]):
        row, grad, factor = x[i], g[i], scale[i]
        if has_mean:
            middle = mean[i]
        for j in range(width):
            normal[j] = (row[j] - middle) * factor
            dweight[j] = dweight[j] + grad[j] * normal[j]
            dbias[j] = dbias[j] + grad[j]
            product[j] = grad[j] * weight[j]
        if not wants_dx:
            continue
        tilt = _dot(product, normal) * share
        if has_mean:
            shift = _sum(product) * share
        into = dx[i]
        for j in range(width):
            into[j] = (product[j] - normal[j] * tilt - shift) * factor


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
