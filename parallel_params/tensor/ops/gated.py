"""SwiGLU: one half of every row lets the other half through."""

import numpy as np

from parallel_params.tensor import activation_kernels as kernels
from parallel_params.tensor import tape
from parallel_params.tensor.ops.activation import silu
from parallel_params.tensor.ops.apply import Operand, cast, result
from parallel_params.tensor.ops.dims import as_dim
from parallel_params.tensor.ops.elementwise import as_float
from parallel_params.tensor.ops.indexing import taken
from parallel_params.tensor.ops.shape import swapaxes
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def swiglu(input: Operand, dim: int = -1) -> Tensor:
    """Return silu(first half) * second half, the halves taken along `dim`.

    Args:
        input: of floating point, with an even length at `dim`.
        dim: along which to halve.

    Raises:
        TypeError: `dim` is no integer.
        ValueError: `dim` is out of range, or of an odd length.

    Source: Shazeer, GLU Variants Improve Transformer (2020), section 2.
    """
    x = as_float(input, "swiglu")
    axis = as_dim(dim, x.ndim, "swiglu")
    shape, dtype = x.shape, x._array.dtype
    if not shape or shape[axis] % 2:
        raise ValueError(
            f"swiglu: dim {axis} of shape {shape} must be even, to be halved"
        )
    if axis != len(shape) - 1:
        return swapaxes(swiglu(swapaxes(x, axis, -1)), axis, -1)
    if dtype.itemsize == 2:
        return cast(swiglu(cast(x, np.dtype(np.float32))), dtype)
    width = shape[-1] // 2
    if tape.is_nested():
        gate, rest = (taken(x, (..., slice(i, i + width))) for i in (0, width))
        return silu(gate) * rest
    rows = np.ascontiguousarray(x._array).reshape(-1, max(1, 2 * width))
    out = np.empty((len(rows), width), dtype)
    kernels.swiglu(rows, out)

    def vjp(g: Array) -> tuple[Array]:
        grad = np.empty_like(rows)
        kernels.swiglu_grads(np.ascontiguousarray(g).reshape(out.shape), rows, grad)
        return (grad.reshape(shape),)

    return result(out.reshape(*shape[:-1], width), (x,), vjp)
