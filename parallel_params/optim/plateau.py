"""A learning rate that falls when a metric stops to improve."""

import math
from collections.abc import Mapping
from typing import Literal

from parallel_params.optim.checks import (
    check_count,
    check_fraction,
    check_not_negative,
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
        self._state = {"scale": 1.0, "best": math.nan, "num_bad": 0, "num_cooling": 0}

    def __call__(self, step: int) -> float:
        """Return the rate of the 0-based `step`, after what was observed so far."""
        return max(self._then(step) * self._state["scale"], self._least)

    def observe(self, metric: float) -> bool:
        """Take note of a metric; return whether the rate has fallen.

        Args:
            metric: the same number on all ranks; one that is no number is no better.
        """
        state = self._state
        metric = float(metric)
        if self._is_better(metric):
            state["best"], state["num_bad"] = metric, 0
        else:
            state["num_bad"] += 1
        if state["num_cooling"]:
            state["num_cooling"] -= 1
            state["num_bad"] = 0
        if state["num_bad"] <= self._patience:
            return False
        state["scale"] *= self._factor
        state["num_cooling"], state["num_bad"] = self._cooldown, 0
        return True

    def state(self) -> dict[str, float]:
        """Return what has to be saved, besides the step."""
        return dict(self._state)

    def load_state(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: other keys than these.
        """
        if set(state) != set(self._state):
            raise ValueError(
                f"the state of a Plateau has the keys {sorted(self._state)}, not "
                f"{sorted(state)}"
            )
        self._state = dict(state)

    def _is_better(self, metric: float) -> bool:
        best = self._state["best"]
        if math.isnan(best):
            return not math.isnan(metric)
        # As PyTorch: a share of the best, so of a negative one the wrong way round.
        if self._is_min:
            return metric < best * (1 - self._threshold)
        return metric > best * (1 + self._threshold)
