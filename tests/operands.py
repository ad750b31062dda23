"""Drawn operands of operators."""

import numpy as np

from parallel_params.tensor.tape import Array


def draw(shape: tuple[int, ...], seed: int) -> Array:
    """Return float64 numbers between 1/2 and 2."""
    return np.asarray(np.random.default_rng(seed).uniform(0.5, 2.0, shape))
