"""RMSProp: steps divided by the root of an average of squares: the arithmetic."""

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
class RmsPropRule:
    """RMSProp with momentum; centred, what is divided by is a standard deviation.

    With d = gradient + weight_decay * weight, mean_square averages d^2, from `initial`
    on, moment = momentum * moment + learning_rate * d / sqrt(mean_square + eps), and
    weight -= moment. Centred, mean_gradient averages d, and its square is taken off
    mean_square under the root.

    Source: Tieleman and Hinton, lecture 6.5 (2012), as in `mindspore.nn.RMSProp`;
    Graves, Generating sequences (2013), equations 38 to 45, for centred. PyTorch starts
    from `initial` 0, adds eps to the root, and multiplies the moment by the rate.
    """

    structure: ClassVar[Structure] = ELEMENT

    decay: float = 0.9
    momentum: float = 0.0
    eps: float = 1e-10
    centered: bool = False
    initial: float = 1.0

    @property
    def slots(self) -> tuple[str, ...]:
        """`mean_square` and `moment`; centred, `mean_gradient` too."""
        centre = ("mean_gradient",) if self.centered else ()
        return ("mean_square", "moment", *centre)

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
        """Move `weight` and its averages by one step; see `Rule.update`."""
        if step == 1:
            state["mean_square"].fill(self.initial)
        run_decayed(
            self._kernel(state_dtype(weight.dtype), learning_rate),
            weight,
            gradient,
            [state[slot] for slot in self.slots],
            gradient_scale=gradient_scale,
            weight_decay=weight_decay,
        )

    def _kernel(self, dtype: np.dtype[np.generic], learning_rate: float) -> Kernel:
        keep, share, eps, momentum, zero = fixed_scalars(
            dtype, self.decay, 1 - self.decay, self.eps, self.momentum, 0.0
        )
        pull = np.array(learning_rate, dtype)

        def kernel(
            w: Array, d: Array, square: Array, moment: Array, *rest: Array
        ) -> None:
            t = rest[-1]
            average_squares(square, d, keep, share, t)
            if self.centered:
                mean = rest[0]
                np.multiply(mean, keep, mean)
                np.add(mean, np.multiply(d, share, t), mean)
                np.subtract(square, np.multiply(mean, mean, t), t)
                # Where all gradients are alike the difference may round below 0.
                np.add(np.maximum(t, zero, out=t), eps, t)
            else:
                np.add(square, eps, t)
            np.divide(d, np.sqrt(t, t), d)
            np.multiply(moment, momentum, moment)
            np.add(moment, np.multiply(d, pull, d), moment)
            np.subtract(w, moment, w)

        return kernel
