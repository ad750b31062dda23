"""Rprop: steps of their own length, that only look at signs: the arithmetic."""

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
class RpropRule:
    """Resilient propagation; for full batches, where signs mean something.

    Every element has a step, at first the learning rate. It is multiplied by `eta_plus`
    where the gradient has the sign of the one before, by `eta_minus` where it has the
    other one, and stays between the two bounds. The weight moves by the step against
    the sign, and not at all where the sign has changed.

    Source: Riedmiller and Braun, RPROP (1993), in the variant without backtracking, as
    in `mindspore.nn.Rprop` and `torch.optim.Rprop`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("prev", "step_size")

    eta_minus: float = 0.5
    eta_plus: float = 1.2
    least_step: float = 1e-6
    largest_step: float = 50.0

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
        """Move `weight`, `prev` and `step_size` by one step; see `Rule.update`."""
        if step == 1:
            state["step_size"].fill(learning_rate)
        run_decayed(
            self._kernel(state_dtype(weight.dtype)),
            weight,
            gradient,
            (state["prev"], state["step_size"]),
            gradient_scale=gradient_scale,
            weight_decay=weight_decay,
            num_scratch=2,
        )

    def _kernel(self, dtype: np.dtype[np.generic]) -> Kernel:
        one, zero, minus, plus, least, largest = fixed_scalars(
            dtype,
            *(1.0, 0.0, self.eta_minus, self.eta_plus),
            *(self.least_step, self.largest_step),
        )

        def kernel(
            w: Array, d: Array, before: Array, size: Array, t: Array, factor: Array
        ) -> None:
            # Not the sign of the product: that of two small ones underflows.
            np.multiply(np.sign(before, t), np.sign(d, factor), t)
            factor[...] = one
            np.copyto(factor, plus, where=t > zero)
            np.copyto(factor, minus, where=t < zero)
            np.multiply(size, factor, size)
            np.clip(size, least, largest, out=size)
            np.copyto(before, d)
            np.copyto(before, zero, where=t < zero)
            np.subtract(w, np.multiply(np.sign(before, t), size, t), w)

        return kernel
