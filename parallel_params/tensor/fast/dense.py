"""The fast forms of a dense layer's products: few rows to loops, the others to BLAS.

The choice is by shapes, and by what BLAS is there (`beside_blas`): with the same BLAS,
on as many threads, the same rows have the same bits.
"""

import numpy as np

from parallel_params.tensor import dense_kernels
from parallel_params.tensor.fast import dense_loops as loops
from parallel_params.tensor.fast.beside_blas import is_beaten
from parallel_params.tensor.fast.compiler import fits
from parallel_params.tensor.fast.scratch import matrix, numbers
from parallel_params.tensor.fast.vectors import VECTOR_BYTES
from parallel_params.tensor.tape import Array

# With more rows than this, what BLAS packs is used often enough.
MOST_ROWS = 128
# Bytes of a weight and of its gradient below which BLAS has them in the cache.
LEAST_READ, LEAST_WRITTEN = 1 << 20, 1 << 23


def times_weight(x: Array, w: Array) -> Array:
    """Return x @ w.T."""
    vector = VECTOR_BYTES // w.itemsize
    is_small = w.nbytes < LEAST_READ or not 0 < len(x) <= MOST_ROWS
    is_whole = w.shape[0] % vector == w.shape[1] % vector == 0
    if is_small or not is_whole or not is_beaten() or not fits((x, w)):
        return dense_kernels.times_weight.numpy(x, w)
    panel = loops.PANEL_BYTES // w.itemsize
    filled = -(-len(x) // panel) * panel
    panels = numbers(filled * w.shape[1], w.dtype)
    out = np.empty((len(x), len(w)), w.dtype)
    loops.times_weight(x, w, panels, matrix(loops.BAND, filled, w.dtype), out)
    return out


def weight_grad(g: Array, x: Array, out: Array | None) -> Array:
    """Return g.T @ x."""
    rows, dtype = len(x), x.dtype
    panel = loops.PANEL_BYTES // x.itemsize
    is_small = g.shape[1] * x.nbytes < rows * LEAST_WRITTEN or not 0 < rows <= MOST_ROWS
    if is_small or x.shape[1] % panel or not is_beaten() or not fits((g, x)):
        return dense_kernels.weight_grad.numpy(g, x, out)
    into = np.empty((g.shape[1], x.shape[1]), dtype) if out is None else out
    if not fits((x, into)):
        return dense_kernels.weight_grad.numpy(g, x, out)
    span = min(x.shape[1], loops.SPAN_BYTES // x.itemsize)
    left = numbers(rows * loops.BAND + VECTOR_BYTES // x.itemsize, dtype)
    right, band = numbers(rows * span, dtype), matrix(loops.BAND, span, dtype)
    loops.weight_grad(g, x, left, right, band, into)
    return into
