"""Activations in blocks that stay in the L2 cache, with their derivative on the way.

GELU in the form with tanh, sigmoid and relu are in `kernels.py`. Inputs are
C-contiguous, results of their shape and type.
"""

import numpy as np

from parallel_params.tensor import kernels
from parallel_params.tensor.kernels import BLOCK, blocks
from parallel_params.tensor.tape import Array


def silu(x: Array, out: Array, slope: Array | None) -> None:
    """Write x * sigmoid(x) into `out`, and its derivative into `slope` if wanted.

    Source: Elfwing, Uchibe and Doya, Sigmoid-Weighted Linear Units (2018), section 2.
    """
    flat, into = x.reshape(-1), out.reshape(-1)
    d = None if slope is None else slope.reshape(-1)
    one = np.asarray(1, x.dtype)
    s = np.empty(min(BLOCK, flat.size), x.dtype)
    for part in blocks(flat.size):
        sig, y = s[: part.stop - part.start], into[part]
        kernels.sigmoid(flat[part], sig)
        np.multiply(flat[part], sig, y)
        if d is not None:
            # sigmoid(x) + y (1 - sigmoid(x))
            np.subtract(one, sig, d[part])
            np.multiply(d[part], y, d[part])
            np.add(d[part], sig, d[part])


def swiglu(x: Array, out: Array) -> None:
    """Write silu(left half of a row) * right half of the row into `out`.

    Args:
        x: [rows, 2 * width].
        out: [rows, width].

    Source: Shazeer, GLU Variants Improve Transformer (2020), section 2.
    """
    width = out.shape[1]
    for rows in kernels.row_blocks(out):
        gate, y = x[rows, :width], out[rows]
        kernels.sigmoid(gate, y)
        np.multiply(y, gate, y)
        np.multiply(y, x[rows, width:], y)


def swiglu_grads(g: Array, x: Array, dx: Array) -> None:
    """Write the gradient of `swiglu`; the sigmoid is made again, not kept.

    Args:
        g: [rows, width].
        x: [rows, 2 * width].
        dx: [rows, 2 * width].
    """
    width = g.shape[1]
    one = np.asarray(1, x.dtype)
    for rows in kernels.row_blocks(g):
        gate, grad = x[rows, :width], g[rows]
        of_gate, of_rest = dx[rows, :width], dx[rows, width:]
        sig = np.empty(grad.shape, x.dtype)
        kernels.sigmoid(gate, sig)
        y = np.multiply(gate, sig)
        np.multiply(grad, y, of_rest)
        np.subtract(one, sig, of_gate)
        np.multiply(of_gate, y, of_gate)
        np.add(of_gate, sig, of_gate)
        np.multiply(grad, of_gate, of_gate)
        np.multiply(of_gate, x[rows, width:], of_gate)
