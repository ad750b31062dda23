"""Layer norm and RMS norm over rows, in blocks of rows that stay in the L2 cache.

Forward keeps two numbers a row; what it takes to normalise the input again is less than
what a copy of it would cost in memory traffic. Means are products with a vector and
variances row-wise dot products: several times faster than reductions over short rows.

All arrays are C-contiguous, of one floating-point type; results never share memory with
inputs. `mean` is None for the RMS norm throughout.
"""

import numpy as np

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.kernels import row_blocks
from parallel_params.tensor.tape import Array


@kernel(fast="parallel_params.tensor.fast.forms")
def norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    epsilon: float,
    out: Array,
    mean: Array | None,
    scale: Array,
) -> None:
    """Write (x - mean) * scale * weight + bias into `out`, row by row.

    Args:
        x: [rows, width], width > 0.
        weight: [width], or None for ones.
        bias: [width], or None for zeros.
        epsilon: added to the variance, or to the mean square.
        out: [rows, width].
        mean: [rows] receives the mean of every row; None for the RMS norm.
        scale: [rows] receives 1 / sqrt(variance + epsilon) of every row.

    Source: Ba, Kiros and Hinton, Layer Normalization (2016), section 3; Zhang and
    Sennrich, Root Mean Square Layer Normalization (2019), section 3.
    """
    width = x.shape[1]
    share = np.full(width, 1.0 / width, x.dtype)
    small, one = np.asarray(epsilon, x.dtype), np.asarray(1, x.dtype)
    for rows in row_blocks(x):
        block, into, factor = x[rows], out[rows], scale[rows]
        if mean is None:
            centred = block
        else:
            centred = into
            middle = np.dot(block, share, out=mean[rows])
            np.subtract(block, middle[:, None], centred)
        np.vecdot(centred, centred, factor)
        np.multiply(factor, share[0], factor)
        np.add(factor, small, factor)
        np.sqrt(factor, factor)
        # Squares that overflow make no number, and not the zero that is 1 / infinity.
        np.divide(np.subtract(factor, factor) + one, factor, factor)
        np.multiply(centred, factor[:, None], into)
        if weight is not None:
            np.multiply(into, weight, into)
        if bias is not None:
            np.add(into, bias, into)


@kernel(fast="parallel_params.tensor.fast.forms")
def norm_grads(
    g: Array,
    x: Array,
    weight: Array | None,
    mean: Array | None,
    scale: Array,
    dx: Array | None,
    dweight: Array | None,
    dbias: Array | None,
) -> None:
    """Write the gradients of `norm` where they are wanted.

    Args:
        g: [rows, width] gradient of the result.
        x: [rows, width] the input, and as forward had and left them:
        weight: [width] or None,
        mean: [rows] or None,
        scale: [rows].
        dx: [rows, width] receives the gradient of the input.
        dweight: [width] receives that of the weight, summed over the rows in order.
        dbias: [width] likewise.
    """
    for total in (dweight, dbias):
        if total is not None:
            total.fill(0)
    # With these, a product with a vector is the mean over a row of g * weight.
    share = np.full(x.shape[1], 1.0 / x.shape[1], x.dtype)
    weights = share if weight is None else weight * share[0]
    for rows in row_blocks(x):
        grad, factor = g[rows], scale[rows][:, None]
        normal = _normal(x[rows], None if mean is None else mean[rows], factor)
        product = np.multiply(grad, normal)
        ones = np.ones(len(grad), x.dtype)
        if dweight is not None:
            np.add(dweight, ones.dot(product), dweight)
        if dbias is not None:
            np.add(dbias, ones.dot(grad), dbias)
        if dx is None:
            continue
        into = dx[rows]
        np.multiply(normal, product.dot(weights)[:, None], normal)
        if mean is not None:
            np.add(normal, grad.dot(weights)[:, None], normal)
        if weight is not None:
            grad = np.multiply(grad, weight, into)
        np.subtract(grad, normal, into)
        np.multiply(into, factor, into)


def _normal(x: Array, mean: Array | None, factor: Array) -> Array:
    """Return (x - mean) * factor, what forward had before weight and bias."""
    if mean is None:
        return np.multiply(x, factor)
    out = np.subtract(x, mean[:, None])
    np.multiply(out, factor, out)
    return out
