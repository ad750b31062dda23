"""The compiled loop of the GELU by the error function, and the form that calls it."""

import numpy as np

from parallel_params.tensor import erf
from parallel_params.tensor.fast.compiler import (
    Element,
    compiled,
    fits,
    inlined,
    numbers,
)
from parallel_params.tensor.fast.exponential import exp
from parallel_params.tensor.tape import Array

_CONSTANTS = (erf.ROOT_HALF, erf.DENSITY, erf.NEAR, erf.FAR, 1.0, 0.5, 0.0)
_POLYNOMIALS = (*erf.A, *erf.B, *erf.C, *erf.D)


def erf_gelu(x: Array, out: Array, slope: Array | None) -> None:
    """Write x times the chance that N(0, 1) is below x, and its derivative."""
    if not fits((x, out)):
        erf.erf_gelu.numpy(x, out, slope)
        return
    if out is not x:
        np.copyto(out, x)
    flat = out.reshape(-1)
    derivative = flat if slope is None else slope.reshape(-1)
    constants = numbers(x.dtype, *_CONSTANTS)
    _loop(
        flat,
        derivative,
        slope is not None,
        constants,
        numbers(x.dtype, *_POLYNOMIALS),
    )


@inlined
def _chance(value: Element, decay: Element, c: Array, p: Array) -> Element:
    """Return (1 + erf(y)) / 2 for y = value / sqrt(2), given exp(-y^2).

    Both forms of erf are computed, and one is taken.

    Source: Cody, Rational Chebyshev approximations for the error function (1969).
    """
    one, near, far = c[4], c[2], c[3]
    y = abs(value) * c[0]
    small = near if y > near else y
    s = small * small
    above = (((p[0] * s + p[1]) * s + p[2]) * s + p[3]) * s + p[4]
    below = (((p[5] * s + p[6]) * s + p[7]) * s + p[8]) * s + p[9]
    close = small * (above / below)
    t = far if y > far else y
    above = (((p[10] * t + p[11]) * t + p[12]) * t + p[13]) * t + p[14]
    above = (((above * t + p[15]) * t + p[16]) * t + p[17]) * t + p[18]
    below = (((p[19] * t + p[20]) * t + p[21]) * t + p[22]) * t + p[23]
    below = (((below * t + p[24]) * t + p[25]) * t + p[26]) * t + p[27]
    found = close if y <= near else one - decay * (above / below)
    return ((-found if value < c[6] else found) + one) * c[5]


@compiled("void(T[::1], T[::1], boolean, T[::1], T[::1])")
def _loop(x: Array, slope: Array, has_slope: bool, c: Array, p: Array) -> None:
    """Take the GELU in place, and write its derivative."""
    root, density = c[0], c[1]
    if not has_slope:
        for i in range(x.size):
            value = x[i]
            y = value * root
            x[i] = value * _chance(value, exp(-(y * y)), c, p)
        return
    for i in range(x.size):
        value = x[i]
        y = value * root
        decay = exp(-(y * y))
        chance = _chance(value, decay, c, p)
        slope[i] = value * (decay * density) + chance
        x[i] = value * chance
