"""A learning rate that falls when a metric stops to improve."""

import math
from collections.abc import Mapping
from typing import Literal

from parallel_params.optim.checks import (
    check_count,
    check_fraction,
    check_not_negative,
    check_number,
)
from parallel_params.optim.schedules import Constant, ScheduleLike

Mode = Literal["min", "max"]


class Plateau:
    """Another schedule, times a factor that falls whenever a metric has stopped.

    All ranks must observe the same number, such as the loss that `manager.step`
    returned or any metric that was reduced over the ranks: then they decide the same.
    That they did is checked: learning rates are compared at every step.

    Args:
        then: the schedule, or a rate.
        factor: what the rate is multiplied by.
        patience: observations without an improvement that are let pass.
        threshold: by which share of the best an observation must be better.
        mode: whether less is better, or more.
        cooldown: observations after a fall that count for nothing.
        least: the rate never falls below.

    Raises:
        TypeError, ValueError: a number of another type, or out of its range.

    Source: `torch.optim.lr_scheduler.ReduceLROnPlateau`, with a relative threshold.
    """

    def __init__(
        self,
        then: ScheduleLike | float,
        *,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        mode: Mode = "min",
        cooldown: int = 0,
        least: float = 0.0,
    ) -> None:
        self._then = then if callable(then) else Constant(then)
        self._factor = check_fraction("factor", factor)
        self._patience = check_count("patience", patience, least=0)
        self._threshold = check_not_negative("threshold", threshold)
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}")
        self._is_min = mode == "min"
        self._cooldown = check_count("cooldown", cooldown, least=0)
        self._least = check_not_negative("least", least)
        self._scale = 1.0
        self._best: float | None = None
        self._num_bad = self._num_cooling = 0

    def __call__(self, step: int) -> float:
        """Return the rate of the 0-based `step`, after what was observed so far."""
        return max(self._then(step) * self._scale, self._least)

    def observe(self, metric: float) -> bool:
        """Take note of a metric; return whether the rate has fallen.

        Args:
            metric: the same number on all ranks; one that is not finite is no better.
        """
        metric = float(metric)
        if self._is_better(metric):
            self._best, self._num_bad = metric, 0
        else:
            self._num_bad += 1
        if self._num_cooling:
            self._num_cooling -= 1
            self._num_bad = 0
        if self._num_bad <= self._patience:
            return False
        self._scale *= self._factor
        self._num_cooling, self._num_bad = self._cooldown, 0
        return True

    def state(self) -> dict[str, float | None]:
        """Return what has to be saved, besides the step, of JSON's types."""
        return {
            "scale": self._scale,
            "best": self._best,
            "num_bad": self._num_bad,
            "num_cooling": self._num_cooling,
        }

    def load_state(self, state: object) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: it is something else; nothing has changed.
        """
        known = self.state()
        if not isinstance(state, Mapping) or set(state) != set(known):
            raise ValueError(f"expected a mapping of {list(known)}, not {state!r}")
        scale, bad, cooling = (
            check_not_negative(key, state[key])
            for key in ("scale", "num_bad", "num_cooling")
        )
        best = state["best"]
        self._best = None if best is None else check_number("best", best)
        self._scale, self._num_bad, self._num_cooling = scale, int(bad), int(cooling)

    def _is_better(self, metric: float) -> bool:
        best = self._best
        if best is None or not math.isfinite(metric):
            return math.isfinite(metric)
        # As PyTorch: a share of the best, so of a negative one the wrong way round.
        if self._is_min:
            return metric < best * (1 - self._threshold)
        return metric > best * (1 + self._threshold)
