"""Dropout: elements set to zero at random, by masks that every rank can make alone."""

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor import kernels, random
from parallel_params.tensor.ops.apply import Operand, as_operand, result
from parallel_params.tensor.ops.elementwise import as_float
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def dropout(
    input: Operand, p: float = 0.5, training: bool = True, seed: int | None = None
) -> Tensor:
    """Return the input with some elements zero and the others scaled up.

    The mask is a function of the seed, the open `random.scope`, how many draws the
    scope has seen, and the position in the input: not of the rank.

    Args:
        input: of floating point; integers count as float32.
        p: chance of an element to become zero, in [0, 1]. Chances between 2^-7 and
            1 - 2^-7 are rounded to 16 bits.
        training: if False, the input is returned.
        seed: draw the mask from this seed alone: the same one in every call.

    Raises:
        ValueError: `p` is no chance.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p is a chance in [0, 1], not {p}")
    if not training or p == 0.0:
        return as_operand(input, "dropout")
    x = as_float(input, "dropout")
    stream = random.next_stream() if seed is None else random.Stream((seed, "dropout"))
    array = np.ascontiguousarray(x._array)
    keep = stream.bernoulli(0, array.size, 1.0 - p).reshape(x._array.shape)
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    return masked(x, keep, scale)


def masked(x: Tensor, keep: NDArray[np.bool_], scale: float) -> Tensor:
    """Return x * keep * scale."""
    return result(
        _masked(x._array, keep, scale),
        (x,),
        lambda g: (_masked(g, keep, scale),),
        lambda g, *_: (masked(g, keep, scale),),
    )


def _masked(x: Array, keep: NDArray[np.bool_], scale: float) -> Array:
    array = np.ascontiguousarray(x)
    out = np.empty_like(array)
    kernels.masked(array.reshape(-1), keep.reshape(-1), scale, out.reshape(-1))
    return out.reshape(x.shape)
