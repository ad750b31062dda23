"""Adagrad and Adadelta: steps divided by what gradients have been: the arithmetic."""

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
class AdagradRule:
    """Adagrad: divided by the root of the sum of all squares so far.

    With d = gradient + weight_decay * weight, accum += d^2, from `initial` on, and
    weight -= learning_rate * d / (sqrt(accum) + eps). Without `update_slots` accum
    stays what it is.

    Source: Duchi, Hazan and Singer, Adaptive subgradient methods (2011), as in
    `mindspore.nn.Adagrad`, with the eps of `torch.optim.Adagrad`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("accum",)

    initial: float = 0.1
    eps: float = 1e-10
    update_slots: bool = True

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
        """Move `weight` and `accum` by one step; see `Rule.update`."""
        if step == 1:
            state["accum"].fill(self.initial)
        dtype = state_dtype(weight.dtype)
        (eps,) = fixed_scalars(dtype, self.eps)
        pull = np.array(learning_rate, dtype)

        def kernel(w: Array, d: Array, accum: Array, t: Array) -> None:
            if self.update_slots:
                np.add(accum, np.multiply(d, d, t), accum)
            np.add(np.sqrt(accum, t), eps, t)
            np.divide(d, t, t)
            np.subtract(w, np.multiply(t, pull, t), w)

        run_decayed(
            kernel,
            weight,
            gradient,
            (state["accum"],),
            gradient_scale=gradient_scale,
            weight_decay=weight_decay,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdadeltaRule:
    """Adadelta: steps in the unit of the weights, with no rate to choose.

    With d = gradient + weight_decay * weight, accum averages d^2, the step is
    u = d * sqrt(accum_update + eps) / sqrt(accum + eps), accum_update averages u^2, and
    weight -= learning_rate * u. Averages keep `rho` of what they were.

    Source: Zeiler, ADADELTA (2012), algorithm 1, as in `mindspore.nn.Adadelta` and
    `torch.optim.Adadelta`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("accum", "accum_update")

    rho: float = 0.9
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
        """Move `weight` and both averages by one step; see `Rule.update`."""
        dtype = state_dtype(weight.dtype)
        rho, share, eps = fixed_scalars(dtype, self.rho, 1 - self.rho, self.eps)
        pull = np.array(learning_rate, dtype)

        def kernel(w: Array, d: Array, accum: Array, moved: Array, t: Array) -> None:
            average_squares(accum, d, rho, share, t)
            np.add(accum, eps, t)
            np.divide(d, np.sqrt(t, t), d)
            np.add(moved, eps, t)
            np.multiply(d, np.sqrt(t, t), d)
            average_squares(moved, d, rho, share, t)
            np.subtract(w, np.multiply(d, pull, d), w)

        run_decayed(
            kernel,
            weight,
            gradient,
            (state["accum"], state["accum_update"]),
            gradient_scale=gradient_scale,
            weight_decay=weight_decay,
        )


def average_squares(v: Array, d: Array, keep: Array, share: Array, t: Array) -> None:
    """Move `v` to keep * v + share * d^2; `t` is scratch."""
    np.multiply(d, d, t)
    np.multiply(t, share, t)
    np.multiply(v, keep, v)
    np.add(v, t, v)
