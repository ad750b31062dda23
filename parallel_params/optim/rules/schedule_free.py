"""Schedule-free AdamW: averages of the weights instead of a schedule: the arithmetic.

The weight is where gradients are taken, y of the paper; `z` is where steps go. What to
evaluate with, x, lies between both, and is computed when it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.blocks import fixed_scalars
from parallel_params.optim.decayed import Kernel, run_decayed
from parallel_params.optim.rule import ELEMENT, state_dtype
from parallel_params.optim.rules.adagrad import average_squares
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFreeAdamWRule:
    """AdamW without a schedule; evaluate with `evaluation`, not with the weight.

    With u = gradient / (sqrt(v_hat) + eps) + weight_decay * y and c the share of this
    step in the average, y moves by c towards z and by
    learning_rate * (beta1 * (1 - c) - 1) * u, and z -= learning_rate * u. Then
    x = y + (1 - 1 / beta1) * (z - y).

    The rule warms up itself, in a line over `warmup` steps, and weighs steps by the
    square of that: so c depends on the step alone, and the learning rate given is best
    a constant.

    Source: Defazio et al., The road less scheduled (2024), algorithm 1, and the
    authors' `AdamWScheduleFree`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("z", "exp_avg_sq")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    warmup: int = 0

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
        """Move `weight`, `z` and `exp_avg_sq` by one step; see `Rule.update`."""
        if step == 1:
            state["z"][...] = weight
        rate, share = learning_rate * self._warmth(step), self._share(step)
        kernel = self._kernel(
            state_dtype(weight.dtype),
            rate,
            rate * (1 - self.beta1 * (1 - share)),
            share,
            1 / (1 - self.beta2**step),
            weight_decay,
        )
        run_decayed(
            kernel,
            weight,
            gradient,
            (state["z"], state["exp_avg_sq"]),
            gradient_scale=gradient_scale,
        )

    def _kernel(self, dtype: np.dtype[np.generic], *numbers: float) -> Kernel:
        beta2, share2, eps = fixed_scalars(dtype, self.beta2, 1 - self.beta2, self.eps)
        pull, pull_y, towards, by, decay = (np.array(x, dtype) for x in numbers)

        def kernel(y: Array, u: Array, z: Array, v: Array, t: Array) -> None:
            average_squares(v, u, beta2, share2, t)
            np.sqrt(np.multiply(v, by, t), t)
            np.divide(u, np.add(t, eps, t), u)
            if decay:
                np.add(u, np.multiply(y, decay, t), u)
            np.multiply(np.subtract(z, y, t), towards, t)
            np.add(y, t, y)
            np.subtract(y, np.multiply(u, pull_y, t), y)
            np.subtract(z, np.multiply(u, pull, t), z)

        return kernel

    def evaluation(self, weight: Array, state: Mapping[str, Array]) -> Array:
        """Return x: the weights to evaluate with; see `EvaluatedRule`."""
        dtype = state_dtype(weight.dtype)
        y = weight.astype(dtype)
        x: Array = y + np.array(1 - 1 / self.beta1, dtype) * (state["z"] - y)
        return x

    def _warmth(self, step: int) -> float:
        return min(1.0, step / self.warmup) if self.warmup else 1.0

    def _share(self, step: int) -> float:
        """Return the weight of this step over that of all up to it."""
        warm = min(step, self.warmup)
        total = float(step - warm)
        if warm:
            total += warm * (warm + 1) * (2 * warm + 1) / (6 * self.warmup**2)
        return self._warmth(step) ** 2 / total
