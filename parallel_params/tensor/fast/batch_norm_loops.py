"""The compiled loops of batch norm, and the forms that call them.

A channel of a sample is one row: sums over it run in lanes and a fixed tree, and
those of the samples are added in float64, as in NumPy's form. That takes rows shorter
than the lanes.
"""

import numpy as np

from parallel_params.tensor import batch_norm_kernels as kernels
from parallel_params.tensor.fast.compiler import compiled, fits
from parallel_params.tensor.fast.reductions import dot, total
from parallel_params.tensor.tape import Array

_LANES = 8


def moments(x: Array) -> tuple[Array, Array]:
    """Return mean and (biased) variance of every channel."""
    if not _takes(x):
        return kernels.moments.numpy(x)
    count = len(x) * x.shape[2]
    sums = np.empty(x.shape[:2], x.dtype)
    _sums(x, sums)
    mean = _over_samples(sums) / count
    _squares(x, mean.astype(x.dtype), np.empty(x.shape[2], x.dtype), sums)
    return mean, _over_samples(sums) / count


def normalise(x: Array, mean: Array, scale: Array, bias: Array | None) -> Array:
    """Return (x - mean) * scale + bias, with numbers per channel."""
    if not _takes(x):
        return kernels.normalise.numpy(x, mean, scale, bias)
    out = np.empty_like(x)
    shift = np.zeros(x.shape[1], x.dtype) if bias is None else _like(x, bias)
    _normalise(x, _like(x, mean), _like(x, scale), shift, out)
    return out


def grad_sums(g: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """Return the sums of g and of g * (x - mean) over every channel."""
    if not _takes(g, x):
        return kernels.grad_sums.numpy(g, x, mean)
    sums, products = np.empty(x.shape[:2], x.dtype), np.empty(x.shape[:2], x.dtype)
    _grad_sums(g, x, _like(x, mean), np.empty(x.shape[2], x.dtype), sums, products)
    return _over_samples(sums), _over_samples(products)


def batch_grad(
    g: Array, x: Array, mean: Array, scale: Array, mean_g: Array, slope: Array
) -> Array:
    """Return (g - mean_g - (x - mean) * slope) * scale, with numbers per channel."""
    if not _takes(g, x):
        return kernels.batch_grad.numpy(g, x, mean, scale, mean_g, slope)
    out = np.empty_like(x)
    middle, factor, down, tilt = (_like(x, a) for a in (mean, scale, mean_g, slope))
    _batch_grad(g, x, middle, factor, down, tilt, out)
    return out


def _takes(*arrays: Array) -> bool:
    return fits(arrays) and arrays[0].shape[2] >= _LANES


def _like(x: Array, values: Array) -> Array:
    return np.ascontiguousarray(values, x.dtype)


def _over_samples(sums: Array) -> Array:
    total: Array = np.add.reduce(sums, 0, np.float64)
    return total


@compiled("void(T[:, :, ::1], T[:, ::1])")
def _sums(x: Array, out: Array) -> None:
    """Write the sum of every row."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[n, c] = total(x[n, c])


@compiled("void(T[:, :, ::1], T[::1], T[::1], T[:, ::1])")
def _squares(x: Array, mean: Array, centred: Array, out: Array) -> None:
    """Write the sum of squares about the mean of every row."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            row, middle = x[n, c], mean[c]
            for j in range(row.size):
                centred[j] = row[j] - middle
            out[n, c] = dot(centred, centred)


@compiled("void(T[:, :, ::1], T[::1], T[::1], T[::1], T[:, :, ::1])")
def _normalise(x: Array, mean: Array, scale: Array, bias: Array, out: Array) -> None:
    """Write (x - mean) * scale + bias."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            row, into = x[n, c], out[n, c]
            middle, factor, shift = mean[c], scale[c], bias[c]
            for j in range(row.size):
                into[j] = (row[j] - middle) * factor + shift


@compiled(
    "void(T[:, :, ::1], T[:, :, ::1], T[::1], T[::1], T[:, ::1], T[:, ::1])",
)
def _grad_sums(
    g: Array, x: Array, mean: Array, centred: Array, sums: Array, products: Array
) -> None:
    """Write the sums of g and of g * (x - mean) of every row."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            row, grad, middle = x[n, c], g[n, c], mean[c]
            for j in range(row.size):
                centred[j] = row[j] - middle
            sums[n, c] = total(grad)
            products[n, c] = dot(grad, centred)


@compiled(
    "void(T[:, :, ::1], T[:, :, ::1], T[::1], T[::1], T[::1], T[::1], T[:, :, ::1])"
)
def _batch_grad(
    g: Array,
    x: Array,
    mean: Array,
    scale: Array,
    mean_g: Array,
    slope: Array,
    out: Array,
) -> None:
    """Write (g - mean_g - (x - mean) * slope) * scale, in NumPy's order."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            row, grad, into = x[n, c], g[n, c], out[n, c]
            middle, factor, down, tilt = mean[c], scale[c], mean_g[c], slope[c]
            for j in range(row.size):
                into[j] = (grad[j] - (row[j] - middle) * tilt - down) * factor
