"""The fast forms of a dense layer's products: few rows to loops, the others to BLAS.

The choice is by shapes, and by what BLAS is there (`beside_blas`): with the same BLAS,
on as many threads, the same rows have the same bits.
"""

import numpy as np

from parallel_params.tensor import dense_kernels
from parallel_params.tensor.fast import dense_loops as loops
from parallel_params.tensor.fast.beside_blas import is_beaten
from parallel_params.tensor.fast.compiler import fits
from parallel_params.tensor.fast.scratch import matrix, memory
from parallel_params.tensor.fast.vectors import VECTOR_BYTES
from parallel_params.tensor.tape import Array

# With more rows than this, what BLAS packs is used often enough.
MOST_ROWS = 128
# Bytes of a weight and of its gradient below which BLAS has them in the cache.
LEAST_READ, LEAST_WRITTEN = 1 << 20, 1 << 23


def times_weight(x: Array, w: Array) -> Array:
    """Return x @ w.T."""
    is_ours = w.nbytes >= LEAST_READ and _takes(x, w, VECTOR_BYTES)
    if not is_ours or w.shape[0] % (VECTOR_BYTES // w.itemsize):
        return dense_kernels.times_weight.numpy(x, w)
    panel = loops.PANEL_BYTES // w.itemsize
    filled = -(-len(x) // panel) * panel
    panels = memory(filled * w.shape[1], w.dtype)
    out = np.empty((len(x), len(w)), w.dtype)
    loops.times_weight(x, w, panels, matrix(loops.BAND, filled, w.dtype), out)
    return out


def weight_grad(g: Array, x: Array, out: Array | None) -> Array:
    """Return g.T @ x."""
    into = np.empty((g.shape[1], x.shape[1]), x.dtype) if out is None else out
    is_small = into.nbytes < LEAST_WRITTEN
    if is_small or not _takes(x, into, loops.PANEL_BYTES) or not fits((g, x)):
        return dense_kernels.weight_grad.numpy(g, x, into)
    span, rows = min(x.shape[1], loops.SPAN_BYTES // x.itemsize), len(x)
    left = memory(rows * loops.BAND + VECTOR_BYTES // x.itemsize, x.dtype)
    right, band = memory(rows * span, x.dtype), matrix(loops.BAND, span, x.dtype)
    loops.weight_grad(g, x, left, right, band, into)
    return into


def _takes(x: Array, w: Array, unit: int) -> bool:
    """Return whether x is few rows of whole units of bytes, for loops beside BLAS."""
    is_few = 0 < len(x) <= MOST_ROWS and not x.shape[1] % (unit // x.itemsize)
    return is_few and is_beaten() and fits((x, w))
