"""What a schedule is, and what several of them share."""

import math
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from parallel_params.optim.checks import (
    check_count,
    check_fraction,
    check_not_negative,
)

LEFT: Mapping[str, Callable[[float], float]] = {
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "sqrt": lambda done: 1.0 - math.sqrt(done),
}
"""By shape of a fall: which share is left when a share of the steps is done."""


class Schedule(Protocol):
    """A rate for every step."""

    def __call__(self, step: int) -> float:
        """Return the rate of the 0-based `step`."""
        ...


ScheduleLike: TypeAlias = Schedule | Callable[[int], float]


def check_fall(
    peak: float, num_steps: int, final: float, *, what: str = "num_steps"
) -> None:
    """Refuse a fall from a negative rate, over no step, or to more than all.

    Raises:
        TypeError, ValueError: naming the number and its range.
    """
    check_not_negative("peak", peak)
    check_count(what, num_steps, least=1)
    check_fraction("final", final)


def between(peak: float, final: float, left: float) -> float:
    """Return the rate when `left` of the way from final * peak to peak is left."""
    return peak * (final + (1.0 - final) * left)
