"""The exponential inside of compiled loops, where Numba would call the C library.

It is a polynomial, off by less than one unit in the last place, 0 where the result
would be subnormal, infinite near the largest number.

A processor works on few operations at once, and those of one exponential wait for each
other. So where a loop does nothing else for long it pays to write it as two, each with
one half of it: `e^x = power(*parts(bounded(x)))`.
"""

import numpy as np

from parallel_params.tensor.fast.compiler import (
    Element,
    by_type,
    by_types,
    fused,
    inlined,
)
from parallel_params.tensor.tape import Array


def _bounded32(x: Element) -> Element:
    high = np.float32(89)
    y = high if x > high else x
    return np.float32(-88) if x < np.float32(-87.3365) else y


def _parts32(x: Element) -> tuple[Element, Element]:
    """Return r and s for e^x = 2^n e^r, |r| <= log(2) / 2.

    What is added before n is rounded leaves n + 127 in the last bits of s, which is the
    exponent of 2^n, and 0 where x is below all bounds.

    Source: Moshier, Cephes Mathematical Library (1989), single/expf.c.
    """
    magic = np.float32(12582912 + 127)
    s = fused(x, np.float32(1.44269504), magic)
    n = s - magic
    r = fused(n, np.float32(-0.693359375), x)
    return fused(n, np.float32(2.12194440e-4), r), s


def _power32(r: Element, s: Element) -> Element:
    """Return 2^n e^r; the polynomial is off by 3e-9, fitted by Lawson's algorithm."""
    one, square = np.float32(1), r * r
    p = fused(np.float32(0.1666652), r, np.float32(0.49999994))
    q = fused(np.float32(0.008368899), r, np.float32(0.041668408))
    q = fused(np.float32(0.001381422), square, q)
    p = fused(q, square, p)
    p = fused(fused(p, r, one), r, one)
    bits = np.float32(s).view(np.int32) << np.int32(23)
    return p * np.int32(bits).view(np.float32)


def _bounded64(x: Element) -> Element:
    y = 710.0 if x > 710.0 else x
    return -709.2 if x < -708.396 else y


def _parts64(x: Element) -> tuple[Element, Element]:
    """Return r and s for e^x = 2^n e^r, |r| <= log(2) / 2."""
    magic = 6755399441055744.0 + 1023.0
    s = fused(x, 1.4426950408889634, magic)
    n = s - magic
    r = fused(n, -0.693147180369123816490, x)
    return fused(n, -1.90821492927058770002e-10, r), s


def _power64(r: Element, s: Element) -> Element:
    """Return 2^n e^r by the series to the thirteenth power."""
    p = fused(1.0 / 6227020800.0, r, 1.0 / 479001600.0)
    p = fused(p, r, 1.0 / 39916800.0)
    p = fused(p, r, 1.0 / 3628800.0)
    p = fused(p, r, 1.0 / 362880.0)
    p = fused(p, r, 1.0 / 40320.0)
    p = fused(p, r, 1.0 / 5040.0)
    p = fused(p, r, 1.0 / 720.0)
    p = fused(p, r, 1.0 / 120.0)
    p = fused(p, r, 1.0 / 24.0)
    p = fused(p, r, 1.0 / 6.0)
    p = fused(p, r, 0.5)
    p = fused(fused(p, r, 1.0), r, 1.0)
    return p * np.int64(np.float64(s).view(np.int64) << 52).view(np.float64)


bounded = by_type(_bounded32, _bounded64)
parts = by_type(_parts32, _parts64)
power = by_types(_power32, _power64)


@inlined
def exp(x: Element) -> Element:
    """Return e^x."""
    r, s = parts(bounded(x))
    return power(r, s)


@inlined
def exp_of_row(row: Array, top: Element, out: Array, scratch: Array) -> None:
    """Write exp(row - top) into `out`, which may be `row`.

    Args:
        row: [width].
        top: a number.
        out: [width].
        scratch: [width or more], shares memory with none of them.
    """
    for j in range(row.size):
        out[j], scratch[j] = parts(bounded(row[j] - top))
    for j in range(row.size):
        out[j] = power(out[j], scratch[j])
