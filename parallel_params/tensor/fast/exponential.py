"""The exponential inside of compiled loops, where Numba would call the C library.

It is a polynomial, off by less than one unit in the last place, 0 where the result
would be subnormal, infinite near the largest number.
"""

import numpy as np

from parallel_params.tensor.fast.compiler import Element, by_type, fused


def _exp32(x: Element) -> Element:
    """Cephes' polynomial for 2^n e^r, |r| <= log(2) / 2.

    What is added before n is rounded leaves n + 127 in the last bits, which is the
    exponent of 2^n.

    Source: Moshier, Cephes Mathematical Library (1989), single/expf.c.
    """
    low, high = np.float32(-87.3365), np.float32(89)
    y = low if x < low else (high if x > high else x)
    magic = np.float32(12582912 + 127)
    shifted = fused(y, np.float32(1.44269504), magic)
    n = shifted - magic
    r = fused(n, np.float32(-0.693359375), y)
    r = fused(n, np.float32(2.12194440e-4), r)
    p = fused(np.float32(1.9875691500e-4), r, np.float32(1.3981999507e-3))
    p = fused(p, r, np.float32(8.3334519073e-3))
    p = fused(p, r, np.float32(4.1665795894e-2))
    p = fused(p, r, np.float32(1.6666665459e-1))
    p = fused(p, r, np.float32(5.0000001201e-1))
    p = fused(fused(p, r, np.float32(1)), r, np.float32(1))
    bits = np.float32(shifted).view(np.int32) << np.int32(23)
    p = p * np.int32(bits).view(np.float32)
    return np.float32(0) if x < low else p


def _exp64(x: Element) -> Element:
    """The series of e^r to the thirteenth power, |r| <= log(2) / 2, times 2^n."""
    low, high = -708.396, 710.0
    y = low if x < low else (high if x > high else x)
    magic = 6755399441055744.0 + 1023.0
    shifted = fused(y, 1.4426950408889634, magic)
    n = shifted - magic
    r = fused(n, -0.693147180369123816490, y)
    r = fused(n, -1.90821492927058770002e-10, r)
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
    p = p * np.int64(np.float64(shifted).view(np.int64) << 52).view(np.float64)
    return 0.0 if x < low else p


exp = by_type(_exp32, _exp64)
