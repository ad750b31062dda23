"""Gradient descent with and without momentum: the arithmetic."""

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
        how = Descent(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            gradient_scale=gradient_scale,
            momentum=self.momentum,
            share=1.0 if step == 1 else 1.0 - self.dampening,
            is_nesterov=self.nesterov,
        )
        if self.momentum:
            descend_with_momentum(weight, gradient, state["accum"], how)
        else:
            descend(weight, gradient, how)


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
        how = Descent(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            gradient_scale=gradient_scale,
            momentum=self.momentum,
        )
        descend_with_momentum(weight, gradient, state["moments"], how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """The numbers of one step.

    Attributes:
        learning_rate: of this step.
        weight_decay: 0 for none.
        gradient_scale: the gradient meant is this times the one given.
        momentum: what stays of the accumulated gradients.
        share: of the decayed gradient that is added to them.
        is_nesterov: whether the weight moves along what the next step will have.
    """

    learning_rate: float
    weight_decay: float
    gradient_scale: float
    momentum: float = 0.0
    share: float = 1.0
    is_nesterov: bool = False

    @property
    def pull_gradient(self) -> float:
        """What the weight moves along the gradient."""
        return self.learning_rate * self.gradient_scale

    @property
    def pull_accum(self) -> float:
        """What the weight moves along the accumulated gradients."""
        return self.learning_rate * (self.momentum if self.is_nesterov else 1.0)

    @property
    def keep(self) -> float:
        """What decay leaves of the weight."""
        return 1.0 - self.learning_rate * self.weight_decay


@kernel(fast="parallel_params.optim.fast.sgd")
def descend(weight: Array, gradient: Array, how: Descent) -> None:
    """Decay the weight and step along the gradient."""
    dtype = state_dtype(weight.dtype)
    pull = np.array(how.pull_gradient, dtype)
    keep = np.array(how.keep, dtype)

    def kernel(w: Array, g: Array, t: Array) -> None:
        np.multiply(g, pull, t)
        if how.weight_decay:
            np.multiply(w, keep, w)
        np.subtract(w, t, w)

    run_blocks(kernel, weight, gradient)


@kernel(fast="parallel_params.optim.fast.sgd")
def descend_with_momentum(
    weight: Array, gradient: Array, accum: Array, how: Descent
) -> None:
    """Add `share` of the decayed gradient to `accum`, then step along it.

    The weight is decayed where it is, w * (1 - rate * decay), and not by an array of
    gradients with decay in it: the same number, and one pass fewer.
    """
    dtype = state_dtype(weight.dtype)
    is_plain = how.share * how.gradient_scale == 1.0
    memory, add_g, add_w = fixed_scalars(
        dtype,
        how.momentum,
        how.share * how.gradient_scale,
        how.share * how.weight_decay,
    )
    pull = np.array(how.pull_accum, dtype)
    pull_g = np.array(how.pull_gradient, dtype)
    keep = np.array(how.keep, dtype)

    def kernel(w: Array, g: Array, a: Array, t: Array) -> None:
        np.multiply(a, memory, a)
        np.add(a, g if is_plain else np.multiply(g, add_g, t), a)
        if how.weight_decay:
            np.add(a, np.multiply(w, add_w, t), a)
        if how.is_nesterov:
            if how.weight_decay:
                np.multiply(w, keep, w)
            np.subtract(w, np.multiply(g, pull_g, t), w)
        np.subtract(w, np.multiply(a, pull, t), w)

    run_blocks(kernel, weight, gradient, (accum,))
