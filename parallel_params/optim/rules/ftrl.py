"""FTRL-Proximal: weights that become exactly zero: the arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.blocks import fixed_scalars
from parallel_params.optim.decayed import Kernel, run_decayed
from parallel_params.optim.rule import ELEMENT, state_dtype
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class FtrlRule:
    """Follow the regularised leader; with `l1` many weights are zero.

    With d = gradient + weight_decay * weight and n the sum of d^2, from `initial` on,
    linear += d - (n_new^p - n^p) / learning_rate * weight, where p = -`power`; and
    weight = (sign(linear) * l1 - linear) / (n_new^p / learning_rate + 2 * l2), or 0
    where linear is not longer than l1. At a learning rate of 0 nothing moves.

    Source: McMahan et al., Ad click prediction (2013), algorithm 1, as in
    `mindspore.nn.FTRL`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("moments", "linear")

    initial: float = 0.1
    power: float = -0.5
    l1: float = 0.0
    l2: float = 0.0

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
        """Move `weight`, `moments` and `linear` by one step; see `Rule.update`."""
        if step == 1:
            state["moments"].fill(self.initial)
        if not learning_rate:
            return
        run_decayed(
            self._kernel(state_dtype(weight.dtype), learning_rate),
            weight,
            gradient,
            (state["moments"], state["linear"]),
            gradient_scale=gradient_scale,
            weight_decay=weight_decay,
            num_scratch=2,
        )

    def _kernel(self, dtype: np.dtype[np.generic], learning_rate: float) -> Kernel:
        l1, twice_l2, power = fixed_scalars(dtype, self.l1, 2 * self.l2, -self.power)
        by = np.array(1 / learning_rate, dtype)

        def raised(values: Array, out: Array) -> Array:
            if self.power == -0.5:
                return np.multiply(np.sqrt(values, out), by, out)
            return np.multiply(np.power(values, power, out), by, out)

        def kernel(
            w: Array, d: Array, n: Array, linear: Array, t: Array, root: Array
        ) -> None:
            raised(n, root)
            np.add(n, np.multiply(d, d, t), n)
            np.add(linear, d, linear)
            raised(n, t)
            np.subtract(t, root, root)
            np.subtract(linear, np.multiply(root, w, root), linear)
            np.add(t, twice_l2, t)
            np.multiply(np.sign(linear, d), l1, d)
            np.divide(np.subtract(d, linear, d), t, w)
            w[np.abs(linear, t) <= l1] = 0

        return kernel
