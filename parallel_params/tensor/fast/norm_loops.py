"""The compiled loops of layer norm and RMS norm, and of their gradients."""

import numpy as np

from parallel_params.tensor.fast.compiler import compiled
from parallel_params.tensor.fast.reductions import dot, total
from parallel_params.tensor.tape import Array


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
            middle = total(row) * share
            mean[i] = middle
        for j in range(row.size):
            into[j] = row[j] - middle
        root = np.sqrt(dot(into, into) * share + epsilon)
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
        tilt = dot(product, normal) * share
        if has_mean:
            shift = total(product) * share
        into = dx[i]
        for j in range(width):
            into[j] = (product[j] - normal[j] * tilt - shift) * factor
