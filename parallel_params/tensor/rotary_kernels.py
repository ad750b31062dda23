"""Turning pairs of numbers by angles that grow with the position.

Number i and number i + width / 2 of a vector are a pair. A turn by an angle is undone
by a turn by its negative, so the derivative is the same function with `-sin`.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.tape import Array


@lru_cache(maxsize=16)
def rotary_table(
    num: int, width: int, base: float, dtype: "np.dtype[np.generic]"
) -> tuple[Array, Array]:
    """Return cosine and sine of every angle, [num, width / 2] each, read-only.

    Pair i at position p is turned by p * base^(-2 i / width).

    Source: Su et al., RoFormer (2021), section 3.4.2.
    """
    frequencies = base ** (np.arange(width // 2) * (-2.0 / width))
    angles: NDArray[np.float64] = np.outer(np.arange(num), frequencies)
    tables = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
    for table in tables:
        table.flags.writeable = False
    return tables


def rotate(x: Array, cos: Array, sin: Array, out: Array) -> None:
    """Write x, every pair turned by its angle, into `out`, which may be `x`.

    Args:
        x: [..., width], an even width.
        cos: broadcasts to [..., width / 2].
        sin: of the shape of `cos`.
        out: of the shape of `x`.
    """
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    turned = np.multiply(left, sin)
    cross = np.multiply(right, sin)
    np.multiply(right, cos, out[..., half:])
    np.add(out[..., half:], turned, out[..., half:])
    np.multiply(left, cos, out[..., :half])
    np.subtract(out[..., :half], cross, out[..., :half])
