"""The error function, which NumPy does not have, and the GELU that is made of it.

In blocks that stay in the L2 cache. Array code alone: operators that use it are in
`tensor/ops/`.
"""

import math

import numpy as np

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.kernels import blocks
from parallel_params.tensor.tape import Array

# erf(y) = y A(y^2) / B(y^2) up to this y, and 1 - exp(-y^2) C(y) / D(y) beyond.
NEAR = 0.46875
FAR = 6.0  # erf differs from 1 by less than the spacing of float64 from here on

ROOT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # of the normal law at 0

# Highest power first.
A = (
    1.85777706184603153e-1,
    3.16112374387056560,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
B = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
C = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
D = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)


def erf(x: Array) -> Array:
    """Return 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Args:
        x: float32, good to 2e-7, or float64, good to 4e-16; any shape.

    Source: Cody, Rational Chebyshev approximations for the error function (1969),
    tables II and III; the second serves up to infinity, where erf alone is wanted.
    """
    flat = x.reshape(-1)
    out = np.empty_like(flat)
    for part in blocks(flat.size):
        out[part] = _block(flat[part])
    return out.reshape(x.shape)


@kernel(fast="parallel_params.tensor.fast.erf_loops")
def erf_gelu(x: Array, out: Array, slope: Array | None) -> None:
    """Write x (1 + erf(x / sqrt(2))) / 2, and its derivative into `slope` if wanted.

    Args:
        x: float32 or float64, C-contiguous.
        out: of the shape and type of `x`, C-contiguous.
        slope: likewise; None if the derivative is not wanted.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units (2016), section 2.
    """
    flat, into = x.reshape(-1), out.reshape(-1)
    d = None if slope is None else slope.reshape(-1)
    one, half = np.asarray(1.0, x.dtype), np.asarray(0.5, x.dtype)
    root, density = np.asarray(ROOT_HALF, x.dtype), np.asarray(DENSITY, x.dtype)
    for part in blocks(flat.size):
        y = np.multiply(flat[part], root)
        chance = _block(y)
        np.add(chance, one, chance)
        np.multiply(chance, half, chance)
        if d is not None:
            np.multiply(y, y, y)
            np.negative(y, y)
            np.exp(y, y)
            np.multiply(y, density, y)
            np.multiply(y, flat[part], y)
            np.add(y, chance, d[part])
        np.multiply(flat[part], chance, into[part])


def _block(x: Array) -> Array:
    y = np.minimum(np.abs(x), np.asarray(FAR, x.dtype))
    near = np.asarray(NEAR, x.dtype)
    square = np.minimum(y, near)
    np.multiply(square, square, square)
    close = _polynomial(A, square)
    np.divide(close, _polynomial(B, square), close)
    np.multiply(close, y, close)
    rest = _polynomial(C, y)
    np.divide(rest, _polynomial(D, y), rest)
    decay = np.multiply(y, y)
    np.negative(decay, decay)
    np.exp(decay, decay)
    np.multiply(rest, decay, rest)
    np.subtract(np.asarray(1.0, x.dtype), rest, rest)
    return np.copysign(np.where(y <= near, close, rest), x)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Return the polynomial at x, by Horner's rule."""
    out = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        np.multiply(out, x, out)
        np.add(out, np.asarray(coefficient, x.dtype), out)
    return out
