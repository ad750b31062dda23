"""Adam and its relatives: the arithmetic.

The moments are kept as in the papers, m and v, and not divided by (1 - beta): that
would save two passes of thirteen, but what a user reads, saves and loads would not be m
and v, and converting there and back loses bits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.blocks import fixed_scalars, run_blocks
from parallel_params.optim.rule import ELEMENT, state_dtype
from parallel_params.plan.spec import Structure
from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamRule:
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
        correction1, correction2 = bias_corrections(self.beta1, self.beta2, step)
        how = Adaptation(
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            pull=learning_rate * correction2 / correction1,
            gradient_scale=gradient_scale,
            weight_decay=weight_decay,
            use_nesterov=self.use_nesterov,
        )
        adapt(weight, gradient, state["moment1"], state["moment2"], how)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWRule:
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
        correction1, correction2 = bias_corrections(self.beta1, self.beta2, step)
        how = Adaptation(
            beta1=self.beta1,
            beta2=self.beta2,
            gradient_scale=gradient_scale,
            eps=self.eps * correction2,
            pull=learning_rate * correction2 / correction1,
            keep=1.0 - learning_rate * weight_decay,
        )
        adapt(weight, gradient, state["moment1"], state["moment2"], how)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWeightDecayRule:
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
        """Move `weight`, `adam_m` and `adam_v` by one step; see `Rule.update`."""
        how = Adaptation(
            beta1=self.beta1,
            beta2=self.beta2,
            gradient_scale=gradient_scale,
            eps=self.eps,
            pull=learning_rate,
            keep=1.0 - learning_rate * weight_decay,
        )
        adapt(weight, gradient, state["adam_m"], state["adam_v"], how)


def bias_corrections(beta1: float, beta2: float, step: int) -> tuple[float, float]:
    """Return 1 - beta1^step and the root of 1 - beta2^step."""
    return 1.0 - beta1**step, math.sqrt(1.0 - beta2**step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """The numbers of one step of the family.

    Attributes:
        beta1: what stays of the mean.
        beta2: what stays of the mean square.
        eps: added to the root of the mean square.
        pull: what the weight moves along the quotient.
        gradient_scale: the gradient meant is this times the one given.
        keep: what decay leaves of the weight.
        weight_decay: of the weight that is added to the gradient; 0 for none.
        use_nesterov: whether the weight moves along the mean of the next step.
    """

    beta1: float
    beta2: float
    eps: float
    pull: float
    gradient_scale: float
    keep: float = 1.0
    weight_decay: float = 0.0
    use_nesterov: bool = False


@kernel(fast="parallel_params.optim.fast.adam")
def adapt(
    weight: Array, gradient: Array, mean: Array, square: Array, how: Adaptation
) -> None:
    """Move the moments, then the weight along mean / (sqrt(square) + eps).

    Args:
        weight: [n], written.
        gradient: [n], only read.
        mean: [n], written; the first moment.
        square: [n], written; the second moment.
        how: the numbers.
    """
    move = _Adapt(state_dtype(weight.dtype), how)
    num_scratch = 2 if how.use_nesterov else 1
    if not how.weight_decay:
        run_blocks(move, weight, gradient, (mean, square), num_scratch=num_scratch)
        return
    decay, scale = fixed_scalars(
        state_dtype(weight.dtype), how.weight_decay, how.gradient_scale
    )

    def run(w: Array, g: Array, m: Array, v: Array, d: Array, *t: Array) -> None:
        np.multiply(w, decay, d)
        np.add(d, g if how.gradient_scale == 1.0 else np.multiply(g, scale, t[0]), d)
        move(w, d, m, v, *t)

    run_blocks(run, weight, gradient, (mean, square), num_scratch=1 + num_scratch)


class _Adapt:
    """One block of `adapt`, where decay has been added to the gradient already.

    With a second scratch array the step is Nesterov's.
    """

    __slots__ = ("_constants", "_eps", "_keep", "_pull")

    def __init__(self, dtype: np.dtype[np.generic], how: Adaptation) -> None:
        # Where decay is added to the gradient, the scale has been applied before.
        scale = 1.0 if how.weight_decay else how.gradient_scale
        self._constants = fixed_scalars(
            dtype,
            how.beta1,
            (1 - how.beta1) * scale,
            how.beta2,
            (1 - how.beta2) * scale * scale,
        )
        self._eps = np.array(how.eps, dtype)
        self._pull = np.array(how.pull, dtype)
        self._keep = None if how.keep == 1.0 else np.array(how.keep, dtype)

    def __call__(
        self,
        w: Array,
        g: Array,
        m: Array,
        v: Array,
        t: Array,
        ahead: Array | None = None,
    ) -> None:
        beta1, share1, beta2, share2 = self._constants
        np.multiply(g, share1, t)
        np.multiply(m, beta1, m)
        np.add(m, t, m)
        mean = m
        if ahead is not None:
            mean = ahead
            np.add(np.multiply(m, beta1, ahead), t, ahead)
        np.multiply(g, g, t)
        np.multiply(t, share2, t)
        np.multiply(v, beta2, v)
        np.add(v, t, v)
        np.sqrt(v, t)
        np.add(t, self._eps, t)
        np.divide(mean, t, t)
        np.multiply(t, self._pull, t)
        if self._keep is not None:
            np.multiply(w, self._keep, w)
        np.subtract(w, t, w)
