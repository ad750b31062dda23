"""Rotary position embedding: what a position is, as an angle."""

import numpy as np

from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.rotary_kernels import rotate
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def rotary(x: Operand, cos: Operand, sin: Operand) -> Tensor:
    """Return x with its pairs of numbers turned by angles.

    Number i of a vector and number i + width / 2 are a pair.

    Args:
        x: [..., positions, width] of floating point, with an even width.
        cos: cosines of the angles; broadcasts to [..., positions, width / 2]. Angles
            are constants: no derivative is taken by them.
        sin: their sines, of the shape of `cos`.

    Raises:
        TypeError: the elements are not floating point.
        ValueError: the width is odd, or shapes do not fit.

    Source: Su et al., RoFormer (2021), section 3.4.2; pairs lie as in GPT-NeoX.
    """
    a = as_operand(x, "rotary")
    c, s = (as_operand(t, "rotary")._array for t in (cos, sin))
    shape, dtype = a._array.shape, a._array.dtype
    if not a.dtype.is_float:
        raise TypeError(f"rotary takes floating-point elements, not {a.dtype}")
    if not shape or shape[-1] % 2:
        raise ValueError(f"rotary: the last dim of x must be even, shape is {shape}")
    half = (*shape[:-1], shape[-1] // 2)
    try:
        fits = c.shape == s.shape and np.broadcast_shapes(c.shape, half) == half
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"rotary: cos of shape {c.shape} and sin of shape {s.shape} do not fit x "
            f"of shape {shape}: both must broadcast to {half}"
        )
    if dtype.itemsize == 2:
        return cast(rotary(cast(a, np.dtype(np.float32)), cos, sin), dtype)
    return rotated(a, c.astype(dtype, copy=False), s.astype(dtype, copy=False))


def rotated(x: Tensor, cos: Array, sin: Array) -> Tensor:
    """Return x turned; nothing is checked."""
    array = x._array
    out = np.empty(array.shape, array.dtype)
    rotate(array, cos, sin, out)

    def vjp(g: Array) -> tuple[Array]:
        back = np.empty(g.shape, g.dtype)
        rotate(g, cos, np.negative(sin), back)
        return (back,)

    return result(out, (x,), vjp, lambda g, *_: (rotated(g, cos, np.negative(sin)),))
