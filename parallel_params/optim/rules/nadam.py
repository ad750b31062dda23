"""NAdam: Adam that looks ahead, with a momentum that grows: the arithmetic."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from parallel_params.optim.blocks import fixed_scalars
from parallel_params.optim.decayed import Kernel, run_decayed
from parallel_params.optim.rule import ELEMENT, state_dtype
from parallel_params.optim.rules.adagrad import average_squares
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array

NEGLIGIBLE = 1e-20  # 1 minus this is 1, in float64


@dataclass(frozen=True, slots=True, kw_only=True)
class NAdamRule:
    """NAdam; weight decay is added to the gradient, or decoupled.

    With mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2) and P_t the product of the
    first t of them,
    weight -= learning_rate * (mu_(t+1) * m / (1 - P_(t+1))
    + (1 - mu_t) * d / (1 - P_t)) / (sqrt(v_hat) + eps), where m and v are Adam's.
    P_t is computed from the step, so it is no state: nothing to save, nothing to cut.

    Source: Dozat, Incorporating Nesterov momentum into Adam (2016), algorithm 2, as in
    `torch.optim.NAdam`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("moment1", "moment2")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum_decay: float = 4e-3
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
        root = math.sqrt(1 - self.beta2**step)
        mu, ahead = (
            momentum(self.beta1, self.momentum_decay, t) for t in (step, step + 1)
        )
        product = momentum_product(self.beta1, self.momentum_decay, step)
        coupled = 0.0 if self.is_decoupled else weight_decay
        kernel = self._kernel(
            state_dtype(weight.dtype),
            learning_rate * root * ahead / (1 - product * ahead),
            learning_rate * root * (1 - mu) / (1 - product),
            self.eps * root,
            1 - learning_rate * (weight_decay - coupled),
        )
        run_decayed(
            kernel,
            weight,
            gradient,
            (state["moment1"], state["moment2"]),
            gradient_scale=gradient_scale,
            weight_decay=coupled,
        )

    def _kernel(self, dtype: np.dtype[np.generic], *numbers: float) -> Kernel:
        beta1, share1, beta2, share2 = fixed_scalars(
            dtype, self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
        )
        by_mean, by_gradient, eps, keep = (np.array(x, dtype) for x in numbers)
        is_kept = numbers[-1] == 1.0

        def kernel(w: Array, d: Array, m: Array, v: Array, t: Array) -> None:
            np.multiply(m, beta1, m)
            np.add(m, np.multiply(d, share1, t), m)
            average_squares(v, d, beta2, share2, t)
            np.multiply(d, by_gradient, d)
            np.add(d, np.multiply(m, by_mean, t), d)
            np.add(np.sqrt(v, t), eps, t)
            if not is_kept:
                np.multiply(w, keep, w)
            np.subtract(w, np.divide(d, t, d), w)

        return kernel


def momentum(beta1: float, momentum_decay: float, step: int) -> float:
    """Return mu of a step."""
    return beta1 * (1.0 - 0.5 * math.pow(0.96, step * momentum_decay))


def momentum_product(beta1: float, momentum_decay: float, step: int) -> float:
    """Return the product of the momenta of the first `step` steps; 0 when negligible.

    Multiplied in order, so it is the same number in a run that was resumed.
    """
    products = _products(beta1, momentum_decay, max(64, 1 << (step - 1).bit_length()))
    return products[step - 1] if step <= len(products) else 0.0


@lru_cache(maxsize=16)
def _products(beta1: float, momentum_decay: float, num: int) -> tuple[float, ...]:
    """Return up to `num` products, as many as are not negligible."""
    products, product = [], 1.0
    for step in range(1, num + 1):
        product *= momentum(beta1, momentum_decay, step)
        if product < NEGLIGIBLE:
            break
        products.append(product)
    return tuple(products)
