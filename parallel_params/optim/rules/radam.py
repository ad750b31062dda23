"""RAdam: Adam that waits until its second moment can be trusted: the arithmetic."""

import math
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

LEAST_LENGTH = 5.0  # of the average; PyTorch's, the paper has 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RAdamRule:
    """RAdam; weight decay is added to the gradient, or decoupled.

    With rho_inf = 2 / (1 - beta2) - 1 and
    rho = rho_inf - 2 * step * beta2^step / (1 - beta2^step), up to rho = 5
    weight -= learning_rate * m_hat; afterwards
    weight -= learning_rate * r * m_hat / ((sqrt(v) + eps) / sqrt(1 - beta2^step)),
    where r is the rectification of the paper.

    Source: Liu et al., On the variance of the adaptive learning rate (2020), algorithm
    2, as in `torch.optim.RAdam`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("moment1", "moment2")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    is_decoupled: bool = False

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
        by = self._rectified(step)
        coupled = 0.0 if self.is_decoupled else weight_decay
        kernel = self._kernel(
            state_dtype(weight.dtype),
            learning_rate * (by or 1.0) / (1 - self.beta1**step),
            1 - learning_rate * (weight_decay - coupled),
            is_rectified=by > 0,
        )
        run_decayed(
            kernel,
            weight,
            gradient,
            (state["moment1"], state["moment2"]),
            gradient_scale=gradient_scale,
            weight_decay=coupled,
        )

    def _kernel(
        self,
        dtype: np.dtype[np.generic],
        pull: float,
        keep: float,
        *,
        is_rectified: bool,
    ) -> Kernel:
        beta1, share1, beta2, share2, eps = fixed_scalars(
            dtype,
            *(self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2),
            self.eps,
        )
        by, kept = (np.array(x, dtype) for x in (pull, keep))

        def kernel(w: Array, d: Array, m: Array, v: Array, t: Array) -> None:
            np.multiply(m, beta1, m)
            np.add(m, np.multiply(d, share1, t), m)
            average_squares(v, d, beta2, share2, t)
            along = m
            if is_rectified:
                along = np.divide(m, np.add(np.sqrt(v, t), eps, t), t)
            if keep != 1.0:
                np.multiply(w, kept, w)
            np.subtract(w, np.multiply(along, by, t), w)

        return kernel

    def _rectified(self, step: int) -> float:
        """Return the factor on m_hat / sqrt(v), or 0 while v is not to be trusted."""
        power = self.beta2**step
        longest = 2 / (1 - self.beta2) - 1
        length = longest - 2 * step * power / (1 - power)
        if length <= LEAST_LENGTH:
            return 0.0
        above = (length - 4) * (length - 2) * longest
        below = (longest - 4) * (longest - 2) * length
        return math.sqrt(above / below * (1 - power))
