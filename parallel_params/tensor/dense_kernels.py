"""The products of a dense layer; knows nothing of tensors or of the tape."""

import numpy as np

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.tape import Array


@kernel(fast="parallel_params.tensor.fast.dense")
def times_weight(x: Array, w: Array) -> Array:
    """Return x @ w.T of [rows, in] and [out, in], fresh."""
    out: Array = np.matmul(x, w.T)
    return out


@kernel(fast="parallel_params.tensor.fast.dense")
def weight_grad(g: Array, x: Array, out: Array | None) -> Array:
    """Return g.T @ x of [rows, out] and [rows, in], in `out` if it is given."""
    found: Array = np.matmul(g.T, x, out=out)
    return found
