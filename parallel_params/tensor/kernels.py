"""Elementwise loops in blocks that stay in the L2 cache.

Five passes over a block of 64 Ki elements beat five passes over an array, and a 0-d
array costs less than a Python number in every call. These functions write into what
they are given and know nothing of tensors or of the tape.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.tape import Array

BLOCK = 1 << 16  # elements: 256 KiB of float32, a quarter of an L2 cache
# Elements from which on a product with ones adds rows up faster than a reduction.
MANY = 1 << 16

_WHOLE = (slice(None),)

SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715


def blocks(numel: int) -> Iterator[slice]:
    """Cut `numel` elements into slices of at most `BLOCK`."""
    for start in range(0, numel, BLOCK):
        yield slice(start, min(start + BLOCK, numel))


def row_blocks(x: Array) -> Sequence[slice]:
    """Cut the rows of [rows, width] into slices of at most `BLOCK` elements."""
    if 0 < x.size <= BLOCK:
        return _WHOLE
    rows, width = x.shape
    step = max(1, BLOCK // max(1, width))
    return [slice(start, start + step) for start in range(0, rows, step)]


def relu(x: Array, out: Array) -> None:
    """Write max(x, 0) into `out`; both C-contiguous, of one shape."""
    # Against an array of zeros: against the scalar it is three times slower.
    if x.size <= BLOCK:
        np.maximum(x, np.zeros(x.shape, x.dtype), out=out)
        return
    flat, into = x.reshape(-1), out.reshape(-1)
    zeros = np.zeros(BLOCK, x.dtype)
    for part in blocks(flat.size):
        block = flat[part]
        np.maximum(block, zeros[: block.size], out=into[part])


def masked(x: Array, keep: NDArray[np.bool_], scale: float, out: Array) -> None:
    """Write x * keep * scale into `out`; all [numel], C-contiguous."""
    factor = np.asarray(scale, x.dtype)
    for part in blocks(x.size):
        # In this order the booleans are converted once, and stay in the cache.
        np.multiply(keep[part], factor, out=out[part])
        np.multiply(out[part], x[part], out[part])


@kernel(fast="parallel_params.tensor.fast.forms")
def relu_slope(out: Array, g: Array) -> Array:
    """Return g where `out`, a result of `relu`, is not 0, and 0 * g elsewhere."""
    # A multiplication by booleans converts them one by one; in one go is faster.
    mask: Array = np.not_equal(out, np.asarray(0, out.dtype)).astype(out.dtype)
    np.multiply(mask, g, mask)
    return mask


@kernel(fast="parallel_params.tensor.fast.forms")
def sum_of_rows(x: Array, out: Array | None) -> Array:
    """Return the sum of the rows of [rows, width], in `out` [width] if it is given."""
    if x.size < MANY:
        return np.asarray(np.add.reduce(x, 0, out=out))
    return np.asarray(np.matmul(np.ones(len(x), x.dtype), x, out=out))


def sigmoid(x: Array, out: Array) -> None:
    """Write 1 / (1 + exp(-x)) into `out`, with all its digits where it is small."""
    one = np.asarray(1, x.dtype)
    np.negative(x, out)
    with np.errstate(over="ignore"):  # 1 / infinity is what it should be
        np.exp(out, out)
    np.add(out, one, out)
    np.divide(one, out, out)


@kernel(fast="parallel_params.tensor.fast.forms")
def gelu(x: Array, out: Array, slope: Array | None) -> None:
    """Write x * Phi(x) into `out` and its derivative into `slope`, in the tanh form.

    Args:
        x: the input, C-contiguous; may be `out`.
        out: of the shape and type of `x`, C-contiguous.
        slope: likewise; None if the derivative is not wanted.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units (2016), section 2.
    """
    flat, into = x.reshape(-1), out.reshape(-1)
    d = None if slope is None else slope.reshape(-1)
    for part in blocks(flat.size):
        _gelu_block(flat[part], into[part], None if d is None else d[part])


@kernel(fast="parallel_params.tensor.fast.forms")
def add_bias(x: Array, bias: Array) -> None:
    """Add `bias` [width] to every row of `x` [rows, width], in place."""
    np.add(x, bias, x)


@kernel(fast="parallel_params.tensor.fast.forms")
def bias_relu(x: Array, bias: Array) -> None:
    """Write max(x + bias, 0) in place, while a block is in the cache.

    Args:
        x: [rows, width], C-contiguous.
        bias: [width].
    """
    for part in row_blocks(x):
        block = x[part]
        np.add(block, bias, block)
        np.maximum(block, np.zeros(block.shape, x.dtype), out=block)


@kernel(fast="parallel_params.tensor.fast.forms")
def bias_gelu(x: Array, bias: Array, slope: Array | None) -> None:
    """Write gelu(x + bias) in place, in the tanh form, while a block is in the cache.

    Args:
        x: [rows, width], C-contiguous.
        bias: [width].
        slope: [rows, width] receives the derivative; None if it is not wanted.
    """
    for part in row_blocks(x):
        block = x[part]
        np.add(block, bias, block)
        _gelu_block(block, block, None if slope is None else slope[part])


def _gelu_block(x: Array, out: Array, slope: Array | None) -> None:
    dtype = x.dtype
    one, half = np.asarray(1.0, dtype), np.asarray(0.5, dtype)
    a = np.asarray(SQRT_2_OVER_PI, dtype)
    ac = np.asarray(SQRT_2_OVER_PI * GELU_CUBIC, dtype)
    square = np.multiply(x, x)
    t = np.multiply(square, ac)
    np.add(t, a, t)
    np.multiply(t, x, t)
    np.tanh(t, t)  # tanh(a x + a c x^3)
    if slope is None:
        np.add(t, one, t)
        np.multiply(t, half, t)
        np.multiply(t, x, out)
        return
    # d = (1 + t) / 2 + x / 2 (1 - t^2) (a + 3 a c x^2)
    np.multiply(square, np.asarray(1.5 * float(ac), dtype), square)
    np.add(square, np.asarray(0.5 * float(a), dtype), square)
    np.multiply(square, x, square)
    sech = np.multiply(t, t)
    np.subtract(one, sech, sech)
    np.multiply(square, sech, square)
    np.add(t, one, t)
    np.multiply(t, half, t)
    np.multiply(t, x, out)
    np.add(square, t, slope)
