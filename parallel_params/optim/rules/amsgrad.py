"""AMSGrad: Adam whose second moment never falls in a step: the arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.blocks import fixed_scalars
from parallel_params.optim.decayed import Kernel, run_decayed
from parallel_params.optim.rule import ELEMENT, state_dtype
from parallel_params.optim.rules.adagrad import average_squares
from parallel_params.optim.rules.adam import bias_corrections
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class AmsGradRule:
    """Adam or AdamW, divided by the root of the largest second moment so far.

    As `AdamRule`, or with `is_decoupled` as `AdamWRule`, with the elementwise maximum
    of all moment2 so far, `vhat`, in the place of moment2. The maximum is taken before
    biases are corrected, as in both libraries; the paper corrects none.

    Source: Reddi, Kale and Kumar, On the convergence of Adam and beyond (2018),
    algorithm 2, as in `mindspore.nn.Adam(use_amsgrad=True)` and
    `torch.optim.AdamW(amsgrad=True)`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("moment1", "moment2", "vhat")

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
        """Move `weight`, both moments and `vhat` by one step; see `Rule.update`."""
        correction1, correction2 = bias_corrections(self.beta1, self.beta2, step)
        pull = learning_rate * correction2 / correction1
        eps = self.eps * (correction2 if self.is_decoupled else 1.0)
        coupled = 0.0 if self.is_decoupled else weight_decay
        keep = 1 - learning_rate * (weight_decay - coupled)
        run_decayed(
            self._kernel(state_dtype(weight.dtype), pull, eps, keep),
            weight,
            gradient,
            [state[slot] for slot in self.slots],
            gradient_scale=gradient_scale,
            weight_decay=coupled,
        )

    def _kernel(
        self, dtype: np.dtype[np.generic], pull: float, eps: float, keep: float
    ) -> Kernel:
        beta1, share1, beta2, share2 = fixed_scalars(
            dtype, self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
        )
        by, added, kept = (np.array(x, dtype) for x in (pull, eps, keep))

        def kernel(
            w: Array, d: Array, m: Array, v: Array, top: Array, t: Array
        ) -> None:
            average_squares(v, d, beta2, share2, t)
            np.multiply(m, beta1, m)
            np.add(m, np.multiply(d, share1, d), m)
            np.maximum(top, v, out=top)
            np.add(np.sqrt(top, t), added, t)
            np.multiply(np.divide(m, t, t), by, t)
            if keep != 1.0:
                np.multiply(w, kept, w)
            np.subtract(w, t, w)

        return kernel
