"""Elementwise kernels that get a gradient of their own: scaled, decayed, to be spoilt.

It costs one pass over the block, and the kernels of rarer optimizers stay short: they
know neither `gradient_scale` nor weight decay inside of the gradient.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from parallel_params.optim.blocks import run_blocks
from parallel_params.optim.rule import state_dtype
from parallel_params.tensor.tape import Array

Kernel: TypeAlias = Callable[..., None]


def run_decayed(
    kernel: Kernel,
    weight: Array,
    gradient: Array,
    slots: Sequence[Array] = (),
    *,
    gradient_scale: float,
    weight_decay: float = 0.0,
    num_scratch: int = 1,
) -> None:
    """Call `kernel(weight, d, *slots, *scratch)` on one block after the other.

    Args:
        kernel: elementwise, as for `run_blocks`; it may overwrite `d`, which is
            `gradient_scale * gradient + weight_decay * weight`.
        weight: [n], see `run_blocks`.
        gradient: [n]. Only read.
        slots: [n] each.
        gradient_scale: of the gradient in `d`.
        weight_decay: of the weight in `d`; 0 where it is decoupled.
        num_scratch: uninitialised arrays to hand over, at least 1.
    """
    dtype = state_dtype(weight.dtype)
    scale, decay = (np.array(x, dtype) for x in (gradient_scale, weight_decay))

    def call(w: Array, g: Array, *rest: Array) -> None:
        *others, d = rest
        np.multiply(g, scale, d)
        if weight_decay:
            np.add(d, np.multiply(w, decay, others[-1]), d)
        kernel(w, d, *others)

    run_blocks(call, weight, gradient, slots, num_scratch=num_scratch + 1)
