"""Rates that fall over a number of steps, in one shape or another."""

import math
from dataclasses import dataclass
from typing import Literal

from parallel_params.optim.checks import (
    check_count,
    check_fraction,
    check_not_negative,
    check_positive,
)
from parallel_params.optim.schedules.base import LEFT, between, check_fall

Decay = Literal["linear", "cosine", "sqrt"]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """From `peak` down to `final * peak` after `num_steps`, as (1 - done)^power.

    Raises:
        ValueError: a number out of its range.
    """

    peak: float
    num_steps: int
    final: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        check_fall(self.peak, self.num_steps, self.final)
        check_positive("power", self.power)

    def __call__(self, step: int) -> float:
        """Return the rate of a step; after the last it stays."""
        left = 1.0 - min(step, self.num_steps) / self.num_steps
        return between(self.peak, self.final, left**self.power)


class Linear(Polynomial):
    """From `peak` down to `final * peak` after `num_steps`, in a line."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Cosine:
    """From `peak` down to `final * peak` after `num_steps`, in half a cosine.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5, without restarts.
    """

    peak: float
    num_steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_fall(self.peak, self.num_steps, self.final)

    def __call__(self, step: int) -> float:
        """Return the rate of a step; after the last it stays."""
        done = min(step, self.num_steps) / self.num_steps
        return between(self.peak, self.final, LEFT["cosine"](done))


@dataclass(frozen=True, slots=True)
class CosineRestarts:
    """Half cosines one after the other, each `factor` times as long as the last.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5, as in
    `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`.
    """

    peak: float
    period: int
    factor: int = 1
    final: float = 0.0

    def __post_init__(self) -> None:
        check_fall(self.peak, self.period, self.final, what="period")
        check_count("factor", self.factor, least=1)

    def __call__(self, step: int) -> float:
        """Return the rate of a step."""
        period = self.period
        if self.factor == 1:
            step %= period
        while step >= period:
            step, period = step - period, period * self.factor
        return between(self.peak, self.final, LEFT["cosine"](step / period))


@dataclass(frozen=True, slots=True)
class InverseSquareRoot:
    """`peak * sqrt(timescale / (timescale + step))`.

    Behind a warm-up of `timescale` steps it is the rate of the Transformer.

    Source: Vaswani et al., Attention is all you need (2017), equation 3.
    """

    peak: float
    timescale: int

    def __post_init__(self) -> None:
        check_not_negative("peak", self.peak)
        check_count("timescale", self.timescale, least=1)

    def __call__(self, step: int) -> float:
        """Return the rate of a step."""
        return self.peak * math.sqrt(self.timescale / (self.timescale + step))


@dataclass(frozen=True, slots=True)
class Wsd:
    """`peak`, and in the last `decay` of `num_steps` down to `final * peak`.

    A warm-up goes in front: `WarmUp(Wsd(...), num_steps)`. What decays is forked from
    the stable part, so a run can be prolonged before it.

    Source: Hu et al., MiniCPM (2024), section 4; `sqrt` from Hägele et al., Scaling
    laws and compute-optimal training beyond fixed durations (2024).

    Raises:
        ValueError: a number out of its range, or more decay than steps.
    """

    peak: float
    num_steps: int
    decay: int
    final: float = 0.0
    shape: Decay = "linear"

    def __post_init__(self) -> None:
        check_fall(self.peak, self.num_steps, self.final)
        check_count("decay", self.decay, least=1)
        if self.decay > self.num_steps:
            raise ValueError(
                f"decay must be at most num_steps, {self.num_steps}, not {self.decay}"
            )
        if self.shape not in LEFT:
            raise ValueError(f"shape must be of {tuple(LEFT)}, not {self.shape!r}")

    def __call__(self, step: int) -> float:
        """Return the rate of a step; after the last it stays."""
        into = min(step, self.num_steps) - (self.num_steps - self.decay)
        left = LEFT[self.shape](max(0, into) / self.decay)
        return between(self.peak, self.final, left)


@dataclass(frozen=True, slots=True)
class OneCycle:
    """Up from `peak / start_div` in half a cosine, and far down in another.

    The top is reached after `rise` of the steps; the last rate is
    `peak / start_div / final_div`.

    Source: Smith and Topin, Super-convergence (2018), as in
    `torch.optim.lr_scheduler.OneCycleLR`, without its cycle of momentum.
    """

    peak: float
    num_steps: int
    rise: float = 0.3
    start_div: float = 25.0
    final_div: float = 1e4

    def __post_init__(self) -> None:
        check_fall(self.peak, self.num_steps, 0.0)
        check_count("num_steps", self.num_steps, least=2)
        check_fraction("rise", self.rise)
        check_positive("start_div", self.start_div)
        check_positive("final_div", self.final_div)

    def __call__(self, step: int) -> float:
        """Return the rate of a step; after the last it stays."""
        first = self.peak / self.start_div
        last = first / self.final_div
        top, end = self.rise * self.num_steps - 1, self.num_steps - 1
        step = min(step, end)
        if step <= top:
            return _cosine(first, self.peak, step / top if top else 1.0)
        done = (step - top) / (end - top) if end > top else 1.0
        return _cosine(self.peak, last, done)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * LEFT["cosine"](done)
