"""Normalisation of channels over a batch, in blocks of samples.

Arrays are seen as [N, C, S], C-contiguous: S elements of each of C channels in every
sample. Sums over samples are added in float64, which costs nothing there. What was
normalised is made again in the derivative: two passes over a block in the L2 cache are
cheaper than keeping another array. Nothing here knows tensors or the tape.

Source: Ioffe and Szegedy, Batch normalization (2015), algorithm 1.
"""

from collections.abc import Iterator

import numpy as np

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.kernels import BLOCK
from parallel_params.tensor.tape import Array


@kernel(fast="parallel_params.tensor.fast.batch_norm_loops")
def moments(x: Array) -> tuple[Array, Array]:
    """Return mean and (biased) variance of every channel, [C] in float64."""
    num_samples, _, width = x.shape
    count = num_samples * width
    mean = _over_samples(np.add.reduce(x, 2)) / count
    shift = _per_channel(mean, x)
    squares = np.empty(x.shape[:2], x.dtype)
    for part in _blocks(x):
        centred = x[part] - shift
        np.einsum("ncs,ncs->nc", centred, centred, out=squares[part])
    return mean, _over_samples(squares) / count


@kernel(fast="parallel_params.tensor.fast.batch_norm_loops")
def normalise(x: Array, mean: Array, scale: Array, bias: Array | None) -> Array:
    """Return (x - mean) * scale + bias, with numbers [C] per channel."""
    out = np.empty_like(x)
    shift, factor = _per_channel(mean, x), _per_channel(scale, x)
    add = None if bias is None else _per_channel(bias, x)
    for part in _blocks(x):
        into = out[part]
        np.subtract(x[part], shift, into)
        np.multiply(into, factor, into)
        if add is not None:
            np.add(into, add, into)
    return out


@kernel(fast="parallel_params.tensor.fast.batch_norm_loops")
def grad_sums(g: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """Return the sums of g and of g * (x - mean) over every channel, [C] in float64."""
    shift = _per_channel(mean, x)
    products = np.empty(x.shape[:2], x.dtype)
    for part in _blocks(x):
        np.einsum("ncs,ncs->nc", g[part], x[part] - shift, out=products[part])
    return _over_samples(np.add.reduce(g, 2)), _over_samples(products)


@kernel(fast="parallel_params.tensor.fast.batch_norm_loops")
def batch_grad(
    g: Array, x: Array, mean: Array, scale: Array, mean_g: Array, slope: Array
) -> Array:
    """Return (g - mean_g - (x - mean) * slope) * scale, with numbers [C] per channel.

    That is the gradient of x where `mean` is the batch's own, for the mean of g and
    slope = mean(g * (x - mean)) / (variance + eps).
    """
    out = np.empty_like(x)
    shift, factor = _per_channel(mean, x), _per_channel(scale, x)
    down, tilt = _per_channel(mean_g, x), _per_channel(slope, x)
    for part in _blocks(x):
        into = out[part]
        np.subtract(x[part], shift, into)
        np.multiply(into, tilt, into)
        np.subtract(g[part], into, into)
        np.subtract(into, down, into)
        np.multiply(into, factor, into)
    return out


def scaled(g: Array, scale: Array) -> Array:
    """Return g * scale, with numbers [C] per channel."""
    product: Array = g * _per_channel(scale, g)
    return product


def _per_channel(values: Array, x: Array) -> Array:
    return values.astype(x.dtype, copy=False)[:, None]


def _over_samples(sums: Array) -> Array:
    total: Array = np.add.reduce(sums, 0, np.float64)
    return total


def _blocks(x: Array) -> Iterator[slice]:
    num_samples = len(x)
    step = max(1, BLOCK // max(1, x[0].size)) if num_samples else 1
    for start in range(0, num_samples, step):
        yield slice(start, start + step)
