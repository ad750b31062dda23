"""The quantile of the normal law, with the same bits on every CPU.

Only operations that IEEE 754 rounds exactly (plus, times, divided by, square root, and
taking a float apart) are used, one per pass, so neither the kernel set nor the cut of
the array changes a bit; NumPy's own `log` differs between kernels. Nothing here is
random.
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Reals: TypeAlias = NDArray[np.float64]

# Highest power first. Numerator and denominator for the middle, the tails (down to
# exp(-25)), and what lies beyond.
_MIDDLE = (
    (
        2509.0809287301227,
        33430.57558358813,
        67265.7709270087,
        45921.95393154987,
        13731.69376550946,
        1971.5909503065513,
        133.14166789178438,
        3.3871328727963665,
    ),
    (
        5226.495278852854,
        28729.085735721943,
        39307.89580009271,
        21213.794301586597,
        5394.196021424751,
        687.1870074920579,
        42.31333070160091,
        1.0,
    ),
)
_TAIL = (
    (
        0.0007745450142783414,
        0.022723844989269184,
        0.2417807251774506,
        1.2704582524523684,
        3.6478483247632045,
        5.769497221460691,
        4.630337846156546,
        1.4234371107496835,
    ),
    (
        1.0507500716444169e-09,
        0.0005475938084995345,
        0.015198666563616457,
        0.14810397642748008,
        0.6897673349851,
        1.6763848301838038,
        2.053191626637759,
        1.0,
    ),
)
_FAR_TAIL = (
    (
        2.0103343992922881e-07,
        2.7115555687434876e-05,
        0.0012426609473880784,
        0.026532189526576124,
        0.29656057182850487,
        1.7848265399172913,
        5.463784911164114,
        6.657904643501103,
    ),
    (
        2.0442631033899397e-15,
        1.421511758316446e-07,
        1.8463183175100548e-05,
        0.0007868691311456133,
        0.014875361290850615,
        0.1369298809227358,
        0.599832206555888,
        1.0,
    ),
)


def normal(probability: Reals, *, out: Reals | None = None) -> Reals:
    """Return where the distribution function of N(0, 1) reaches `probability`.

    Relative error about 1e-15.

    Args:
        probability: 1-D, each in (0, 1).
        out: where to write the result; it may be `probability` itself.

    Source: Wichura, Algorithm AS 241, Applied Statistics 37 (1988).
    """
    distance = probability - 0.5
    is_tail = np.abs(distance) > 0.425
    tail = probability[is_tail]
    square = distance * distance
    np.subtract(0.180625, square, out=square)
    result = _ratio(_MIDDLE, square, out)
    result *= distance
    if tail.size:
        result[is_tail] = _tails(tail)
    return result


def _tails(probability: Reals) -> Reals:
    is_left = probability < 0.5
    radius = np.sqrt(-log(np.minimum(probability, 1.0 - probability)))
    values = _ratio(_TAIL, radius - 1.6)
    is_far = radius > 5.0
    if is_far.any():
        values[is_far] = _ratio(_FAR_TAIL, radius[is_far] - 5.0)
    return np.negative(values, where=is_left, out=values)


def log(x: Reals) -> Reals:
    """Return the natural logarithm of positive normal numbers; error about 1 ulp."""
    mantissa, exponent = np.frexp(x)
    # Into [sqrt(1/2), sqrt(2)): there the series in s = (m-1)/(m+1) is short.
    is_low = mantissa < math.sqrt(0.5)
    mantissa += mantissa * is_low
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = np.full_like(s, 1 / 23)
    for odd in range(21, 0, -2):
        series *= square
        series += 1 / odd
    return (exponent - is_low) * math.log(2) + 2.0 * s * series


def _ratio(
    polynomials: tuple[tuple[float, ...], tuple[float, ...]],
    x: Reals,
    out: Reals | None = None,
) -> Reals:
    above, below = (_horner(c, x) for c in polynomials)
    return np.divide(above, below, out=out)


def _horner(coefficients: tuple[float, ...], x: Reals) -> Reals:
    value = x * coefficients[0]
    value += coefficients[1]
    for coefficient in coefficients[2:]:
        value *= x
        value += coefficient
    return value
