"""Rates that stay, or are multiplied by a factor again and again."""

import math
from dataclasses import dataclass

from parallel_params.optim.checks import (
    check_count,
    check_not_negative,
    check_positive,
)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same rate at every step."""

    peak: float

    def __post_init__(self) -> None:
        check_not_negative("peak", self.peak)

    def __call__(self, step: int) -> float:
        """Return the rate."""
        return self.peak


@dataclass(frozen=True, slots=True)
class StepDecay:
    """`peak * gamma^k` after k times `every` steps."""

    peak: float
    every: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_not_negative("peak", self.peak)
        check_count("every", self.every, least=1)
        check_not_negative("gamma", self.gamma)

    def __call__(self, step: int) -> float:
        """Return the rate of a step."""
        return self.peak * self.gamma ** (step // self.every)


@dataclass(frozen=True, slots=True)
class MultiStep:
    """`peak * gamma^k` from the k-th milestone on.

    Raises:
        ValueError: milestones are not ascending, or a number is out of its range.
    """

    peak: float
    milestones: tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        check_not_negative("peak", self.peak)
        check_not_negative("gamma", self.gamma)
        for index, milestone in enumerate(self.milestones):
            check_count(f"milestones[{index}]", milestone, least=1)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must be ascending, not {self.milestones}")

    def __call__(self, step: int) -> float:
        """Return the rate of a step."""
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.peak * self.gamma**passed


@dataclass(frozen=True, slots=True)
class Exponential:
    """`peak * gamma^(step / every)`: smoothly what `StepDecay` does in steps."""

    peak: float
    gamma: float
    every: int = 1

    def __post_init__(self) -> None:
        check_not_negative("peak", self.peak)
        check_positive("gamma", self.gamma)
        check_count("every", self.every, least=1)

    def __call__(self, step: int) -> float:
        """Return the rate of a step."""
        return self.peak * math.pow(self.gamma, step / self.every)
