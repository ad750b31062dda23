"""AdaMax: Adam with the largest gradient for a second moment: the arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.blocks import fixed_scalars
from parallel_params.optim.decayed import run_decayed
from parallel_params.optim.rule import ELEMENT, state_dtype
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaMaxRule:
    """AdaMax; weight decay is added to the gradient.

    With d = gradient + weight_decay * weight, moment1 averages d,
    moment2 = max(beta2 * moment2, |d|), and
    weight -= learning_rate / (1 - beta1^step) * moment1 / (moment2 + eps).

    Source: Kingma and Ba, Adam (2015), algorithm 2, as in `mindspore.nn.AdaMax`;
    PyTorch has eps inside of the maximum.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("moment1", "moment2")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

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
        """Move `weight`, `moment1` and `moment2` by one step; see `Rule.update`."""
        dtype = state_dtype(weight.dtype)
        beta1, share1, beta2, eps = fixed_scalars(
            dtype, self.beta1, 1 - self.beta1, self.beta2, self.eps
        )
        pull = np.array(learning_rate / (1 - self.beta1**step), dtype)

        def kernel(w: Array, d: Array, m: Array, top: Array, t: Array) -> None:
            np.multiply(m, beta1, m)
            np.add(m, np.multiply(d, share1, t), m)
            np.multiply(top, beta2, top)
            np.maximum(top, np.abs(d, d), out=top)
            np.divide(m, np.add(top, eps, t), t)
            np.subtract(w, np.multiply(t, pull, t), w)

        run_decayed(
            kernel,
            weight,
            gradient,
            (state["moment1"], state["moment2"]),
            gradient_scale=gradient_scale,
            weight_decay=weight_decay,
        )
