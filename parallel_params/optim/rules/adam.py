"""Adam and its relatives: the arithmetic.

The moments are kept as in the papers, m and v, and not divided by (1 - beta): that
would save two passes of thirteen, but what a user reads, saves and loads would not be m
and v, and converting there and back loses bits.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from parallel_params.optim.rule import ELEMENT
from parallel_params.optim.rules.adaptation import Adaptation, adapt, adapt_pair
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array


class _Adaptive(ABC):
    """What the rules of the family share: one of them only makes the numbers."""

    __slots__ = ()
    slots: ClassVar[tuple[str, ...]]

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
        """Move `weight` and both moments by one step; see `Rule.update`."""
        how = self._adaptation(step, learning_rate, weight_decay, gradient_scale)
        first, second = self.slots
        mean, square = state[first], state[second]
        adapt.run(weight, gradient, mean, square, how)

    def update_pair(
        self,
        weight: Array,
        left: Array,
        right: Array,
        state: Mapping[str, Array],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float = 1.0,
    ) -> None:
        """Move them along the gradient left + right; see `PairRule.update_pair`."""
        how = self._adaptation(step, learning_rate, weight_decay, gradient_scale)
        mean, square = (state[slot] for slot in self.slots)
        adapt_pair(weight, left, right, mean, square, how)

    @abstractmethod
    def _adaptation(
        self,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float,
    ) -> Adaptation:
        """Return the numbers of one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamRule(_Adaptive):
    """Adam; weight decay is added to the gradient, as L2 regularisation is.

    weight -= rate_t * m / (sqrt(v) + eps), with both corrections of the bias in
    rate_t = learning_rate * sqrt(1 - beta2^step) / (1 - beta1^step), so that eps is not
    corrected: the form at the end of section 2 of the paper. With Nesterov, m is
    replaced by beta1 * m + (1 - beta1) * gradient.

    Source: Kingma and Ba, Adam (2015), as in `mindspore.nn.Adam`; Dozat (2016) for
    Nesterov.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("moment1", "moment2")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    use_nesterov: bool = False

    def _adaptation(
        self,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float,
    ) -> Adaptation:
        correction1, correction2 = bias_corrections(self.beta1, self.beta2, step)
        return Adaptation(
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            pull=learning_rate * correction2 / correction1,
            gradient_scale=gradient_scale,
            weight_decay=weight_decay,
            use_nesterov=self.use_nesterov,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWRule(_Adaptive):
    """Adam with decoupled weight decay and both biases corrected, that of eps too.

    weight = weight * (1 - learning_rate * weight_decay)
    - learning_rate * m_hat / (sqrt(v_hat) + eps).

    Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019), as in
    `torch.optim.AdamW`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("moment1", "moment2")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def _adaptation(
        self,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float,
    ) -> Adaptation:
        correction1, correction2 = bias_corrections(self.beta1, self.beta2, step)
        return Adaptation(
            beta1=self.beta1,
            beta2=self.beta2,
            gradient_scale=gradient_scale,
            eps=self.eps * correction2,
            pull=learning_rate * correction2 / correction1,
            keep=1.0 - learning_rate * weight_decay,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWeightDecayRule(_Adaptive):
    """Adam as BERT was trained: decoupled weight decay, no correction of the biases.

    weight = weight * (1 - learning_rate * weight_decay)
    - learning_rate * m / (sqrt(v) + eps).

    Source: Devlin et al., BERT (2019), as in `mindspore.nn.AdamWeightDecay`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("adam_m", "adam_v")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6

    def _adaptation(
        self,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float,
    ) -> Adaptation:
        return Adaptation(
            beta1=self.beta1,
            beta2=self.beta2,
            gradient_scale=gradient_scale,
            eps=self.eps,
            pull=learning_rate,
            keep=1.0 - learning_rate * weight_decay,
        )


def bias_corrections(beta1: float, beta2: float, step: int) -> tuple[float, float]:
    """Return 1 - beta1^step and the root of 1 - beta2^step."""
    return 1.0 - beta1**step, math.sqrt(1.0 - beta2**step)
