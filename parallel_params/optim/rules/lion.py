"""Lion: the sign of a momentum, with one array of state: the arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.blocks import fixed_scalars, run_blocks
from parallel_params.optim.rule import ELEMENT, state_dtype
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class LionRule:
    """Lion with decoupled weight decay.

    weight = weight * (1 - learning_rate * weight_decay) - learning_rate *
    sign(beta1 * m + (1 - beta1) * gradient); then m = beta2 * m + (1 - beta2) *
    gradient. The sign is that of the mean gradient: ranks average before it, not after.

    Source: Chen et al., Symbolic discovery of optimization algorithms (2023),
    algorithm 2.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("exp_avg",)

    beta1: float = 0.9
    beta2: float = 0.99

    def update(
        self,
        weight: Array,
        gradient: Array,
        state: Mapping[str, Array],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float = 1.0,
    ) -> None:
        """Move `weight` and `exp_avg` by one step; see `Rule.update`."""
        dtype = state_dtype(weight.dtype)
        beta1, share1, beta2, share2 = fixed_scalars(
            dtype,
            *(self.beta1, (1 - self.beta1) * gradient_scale),
            *(self.beta2, (1 - self.beta2) * gradient_scale),
        )
        pull = np.array(learning_rate, dtype)
        keep = np.array(1 - learning_rate * weight_decay, dtype)

        def kernel(w: Array, g: Array, m: Array, t: Array, s: Array) -> None:
            np.add(np.multiply(m, beta1, s), np.multiply(g, share1, t), s)
            np.multiply(np.sign(s, s), pull, s)
            if weight_decay:
                np.multiply(w, keep, w)
            np.subtract(w, s, w)
            np.multiply(m, beta2, m)
            np.add(m, np.multiply(g, share2, t), m)

        run_blocks(kernel, weight, gradient, (state["exp_avg"],), num_scratch=2)
