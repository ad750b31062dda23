"""Schedules made of schedules: a warm-up in front, one after the other."""

from dataclasses import dataclass

from parallel_params.optim.checks import check_count, check_fraction
from parallel_params.optim.schedules.base import ScheduleLike


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A line up to the first rate of `then` over `num_steps`, and `then` behind it.

    The first step has 1 / num_steps of that rate, or `first` of it and the line above.
    `then` counts from 0 when the warm-up has ended.
    """

    then: ScheduleLike
    num_steps: int
    first: float = 0.0

    def __post_init__(self) -> None:
        check_count("num_steps", self.num_steps, least=0)
        check_fraction("first", self.first)

    def __call__(self, step: int) -> float:
        """Return the rate of a step."""
        if step >= self.num_steps:
            return self.then(step - self.num_steps)
        top = self.then(0)
        risen = top * (step + 1) / self.num_steps
        return risen if not self.first else top * self.first + risen * (1 - self.first)


@dataclass(frozen=True, slots=True)
class Chained:
    """Schedules one after the other, each counting from 0; the last one has no end.

    Args:
        parts: pairs of a schedule and its number of steps.
        then: what comes behind them.
    """

    parts: tuple[tuple[ScheduleLike, int], ...]
    then: ScheduleLike

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple((s, n) for s, n in self.parts))
        for index, (_, num_steps) in enumerate(self.parts):
            check_count(f"steps of part {index}", num_steps, least=0)

    def __call__(self, step: int) -> float:
        """Return the rate of a step."""
        for schedule, num_steps in self.parts:
            if step < num_steps:
                return schedule(step)
            step -= num_steps
        return self.then(step)
