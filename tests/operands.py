"""Drawn operands of operators."""

import numpy as np

from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def draw(shape: tuple[int, ...], seed: int) -> Array:
    """Return float64 numbers between 1/2 and 2."""
    return np.asarray(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def away_from_kinks(*shape: int, seed: int = 0) -> Tensor:
    """Numbers of both signs, none within 0.1 of 0 and no two within 0.01."""
    numel = int(np.prod(shape))
    order = np.random.default_rng(seed).permutation(numel)
    signs = np.where(order % 2, 1.0, -1.0)
    return Tensor((signs * (0.1 + 2.0 * (order + 0.5) / max(numel, 1))).reshape(shape))


def positive(*shape: int, seed: int = 0) -> Tensor:
    """Numbers between 1/2 and 2."""
    return Tensor(draw(shape, seed))
