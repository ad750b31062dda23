"""Gradient descent with and without momentum: the arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.blocks import fixed_scalars, run_blocks
from parallel_params.optim.rule import ELEMENT, state_dtype
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SgdRule:
    """Stochastic gradient descent; with `momentum` it keeps one array, `accum`.

    With d = gradient + weight_decay * weight, one step is
    accum = momentum * accum + (1 - dampening) * d, the first one undampened, and
    weight -= learning_rate * accum, or * (d + momentum * accum) with Nesterov.

    Source: Sutskever et al., On the importance of initialization and momentum (2013),
    as in `torch.optim.SGD` and `mindspore.nn.SGD`.
    """

    structure: ClassVar[Structure] = ELEMENT

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """`accum` if there is momentum."""
        return ("accum",) if self.momentum else ()

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
        if not self.momentum:
            _descend(weight, gradient, learning_rate, weight_decay, gradient_scale)
            return
        _descend_with_momentum(
            weight,
            gradient,
            state["accum"],
            momentum=self.momentum,
            share=1.0 if step == 1 else 1.0 - self.dampening,
            is_nesterov=self.nesterov,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            gradient_scale=gradient_scale,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentumRule:
    """Heavy-ball momentum; `SgdRule` without dampening, its array is called `moments`.

    Source: Polyak, Some methods of speeding up the convergence (1964), as in
    `mindspore.nn.Momentum`.
    """

    structure: ClassVar[Structure] = ELEMENT
    slots: ClassVar[tuple[str, ...]] = ("moments",)

    momentum: float

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
        """Move `weight` and `moments` by one step; see `Rule.update`."""
        _descend_with_momentum(
            weight,
            gradient,
            state["moments"],
            momentum=self.momentum,
            share=1.0,
            is_nesterov=False,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            gradient_scale=gradient_scale,
        )


def _descend(
    weight: Array, gradient: Array, rate: float, decay: float, scale: float
) -> None:
    dtype = state_dtype(weight.dtype)
    pull = np.array(rate * scale, dtype)
    keep = np.array(1.0 - rate * decay, dtype)

    def kernel(w: Array, g: Array, t: Array) -> None:
        np.multiply(g, pull, t)
        if decay:
            np.multiply(w, keep, w)
        np.subtract(w, t, w)

    run_blocks(kernel, weight, gradient)


def _descend_with_momentum(
    weight: Array,
    gradient: Array,
    accum: Array,
    *,
    momentum: float,
    share: float,
    is_nesterov: bool,
    learning_rate: float,
    weight_decay: float,
    gradient_scale: float,
) -> None:
    """Add `share` of the decayed gradient to `accum`, then step along it.

    The weight is decayed where it is, w * (1 - rate * decay), and not by an array of
    gradients with decay in it: the same number, and one pass fewer.
    """
    dtype = state_dtype(weight.dtype)
    is_plain = share * gradient_scale == 1.0
    memory, add_g, add_w = fixed_scalars(
        dtype, momentum, share * gradient_scale, share * weight_decay
    )
    pull = np.array(learning_rate * (momentum if is_nesterov else 1.0), dtype)
    pull_g = np.array(learning_rate * gradient_scale, dtype)
    keep = np.array(1.0 - learning_rate * weight_decay, dtype)

    def kernel(w: Array, g: Array, a: Array, t: Array) -> None:
        np.multiply(a, memory, a)
        np.add(a, g if is_plain else np.multiply(g, add_g, t), a)
        if weight_decay:
            np.add(a, np.multiply(w, add_w, t), a)
        if is_nesterov:
            if weight_decay:
                np.multiply(w, keep, w)
            np.subtract(w, np.multiply(g, pull_g, t), w)
        np.subtract(w, np.multiply(a, pull, t), w)

    run_blocks(kernel, weight, gradient, (accum,))
