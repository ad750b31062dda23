"""Averages of the weights beside any rule: the arithmetic.

The average is a state array like others: as long as the weight, cut where the weight is
cut, moved by whoever moves the weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from parallel_params.optim.blocks import run_blocks
from parallel_params.optim.kinds import is_round_rule, slots_of
from parallel_params.optim.rule import (
    AnyRule,
    Moves,
    Part,
    RoundRule,
    Rule,
    Shape,
    Slots,
    state_dtype,
)
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array

AVERAGE = "average_weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaging:
    """How an average follows the weights.

    The weights after step `start + 1` are its first value. Then average = decay *
    average + (1 - decay) * weight or, where `decay` is None, the mean of all.

    Source: Polyak and Juditsky, Acceleration of stochastic approximation (1992), for
    exponential averages as in `torch.optim.swa_utils.get_ema_avg_fn`; Izmailov et al.,
    Averaging weights (2018), for the mean.
    """

    decay: float | None = 0.999
    start: int = 0

    def follow(self, weight: Array, average: Array, *, step: int) -> None:
        """Move `average` [n] after `weight` [n] has taken the step."""
        count = step - self.start
        if count <= 1:
            average[...] = weight
            return
        share = 1 / count if self.decay is None else 1 - self.decay
        towards = np.array(share, state_dtype(weight.dtype))

        # The weight goes in as the gradient: as what is only read.
        def kernel(a: Array, w: Array, t: Array) -> None:
            np.multiply(np.subtract(w, a, t), towards, t)
            np.add(a, t, a)

        run_blocks(kernel, average, weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragedRule:
    """The rule `inner`, and an average of the weights that it makes.

    Source: as of `Averaging`.
    """

    inner: Rule
    averaging: Averaging = Averaging()

    @property
    def structure(self) -> Structure:
        """That of `inner`."""
        return self.inner.structure

    @property
    def slots(self) -> tuple[str, ...]:
        """Those of `inner`, and `average_weight`."""
        return (*self.inner.slots, AVERAGE)

    def slots_of(self, shape: Shape) -> Slots:
        """Return those of `inner`, and `average_weight`."""
        return _with_average(slots_of(self.inner, shape))

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
        """Let `inner` move, then move the average; see `Rule.update`."""
        self.inner.update(
            weight,
            gradient,
            _without_average(state),
            step=step,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            gradient_scale=gradient_scale,
        )
        average = state[AVERAGE]
        self.averaging.follow(weight.reshape(-1), average.reshape(-1), step=step)

    def evaluation(self, weight: Array, state: Mapping[str, Array]) -> Array:
        """Return the average; see `EvaluatedRule`."""
        return state[AVERAGE]


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragedRoundRule:
    """The rule in rounds `inner`, and an average of the weights that it makes."""

    inner: RoundRule
    averaging: Averaging = Averaging()

    @property
    def structure(self) -> Structure:
        """That of `inner`."""
        return self.inner.structure

    @property
    def num_rounds(self) -> int:
        """Those of `inner`."""
        return self.inner.num_rounds

    def slots_of(self, shape: Shape) -> Slots:
        """Return those of `inner`, and `average_weight`."""
        return _with_average(self.inner.slots_of(shape))

    def round_widths(self, shape: Shape) -> tuple[int, ...]:
        """Return those of `inner`."""
        return self.inner.round_widths(shape)

    def moves(
        self,
        part: Part,
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float = 1.0,
    ) -> Moves:
        """Let `inner` move, then move the average; see `RoundRule.moves`."""
        average = part.state[AVERAGE]
        yield from self.inner.moves(
            replace(part, state=_without_average(part.state)),
            step=step,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            gradient_scale=gradient_scale,
        )
        self.averaging.follow(part.weight, average, step=step)

    def evaluation(self, weight: Array, state: Mapping[str, Array]) -> Array:
        """Return the average; see `EvaluatedRule`."""
        return state[AVERAGE]


def averaged(rule: AnyRule, averaging: Averaging) -> AnyRule:
    """Return a rule that also keeps an average of the weights."""
    if is_round_rule(rule):
        return AveragedRoundRule(inner=rule, averaging=averaging)
    return AveragedRule(inner=rule, averaging=averaging)  # type: ignore[arg-type]  # the other kind


def _with_average(slots: Slots) -> Slots:
    return replace(slots, element=(*slots.element, AVERAGE))


def _without_average(state: Mapping[str, Array]) -> Mapping[str, Array]:
    return {slot: values for slot, values in state.items() if slot != AVERAGE}
