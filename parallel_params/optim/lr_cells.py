"""MindSpore's schedules as cells: `nn.CosineDecayLR` and its like.

Called with the step as a tensor, they return the rate as one, float32. A schedule of
one's own derives from `LearningRateSchedule` and has a `construct(global_step)`.
"""

import math

import numpy as np

from parallel_params.nn.cell import Cell
from parallel_params.optim.checks import (
    check_count,
    check_flag,
    check_number,
    check_positive,
)
from parallel_params.optim.dynamic_lr import check_range, cosine, polynomial
from parallel_params.tensor.tensor import Tensor


class LearningRateSchedule(Cell):
    """Base of schedules; `construct(global_step)` or `rate(step)` is to be given."""

    def rate(self, step: int) -> float:
        """Return the rate of the 0-based `step`."""
        raise NotImplementedError(
            f"{type(self).__name__} must have construct(global_step) or rate(step)"
        )

    def construct(self, global_step: Tensor) -> Tensor:
        """Return the rate, 0-d float32.

        Args:
            global_step: one integer.
        """
        step = int(np.asarray(global_step).item())
        return Tensor.wrap(np.asarray(self.rate(step), np.float32))


class _Decay(LearningRateSchedule):
    def __init__(
        self,
        learning_rate: float,
        decay_rate: float,
        decay_steps: int,
        is_stair: bool = False,
    ) -> None:
        super().__init__()
        self._peak = check_positive("learning_rate", learning_rate)
        self._decay = check_positive("decay_rate", decay_rate)
        self._steps = check_count("decay_steps", decay_steps, least=1)
        self._is_stair = check_flag("is_stair", is_stair)

    def _part(self, step: int) -> float:
        return step // self._steps if self._is_stair else step / self._steps


class ExponentialDecayLR(_Decay):
    """learning_rate * decay_rate^(step / decay_steps)."""

    def rate(self, step: int) -> float:
        """Return the rate of the 0-based `step`."""
        return self._peak * math.pow(self._decay, self._part(step))


class NaturalExpDecayLR(_Decay):
    """learning_rate * e^(-decay_rate * step), or of every `decay_steps`-th step."""

    def rate(self, step: int) -> float:
        """Return the rate of the 0-based `step`."""
        passed = step // self._steps * self._steps if self._is_stair else step
        return self._peak * math.exp(-self._decay * passed)


class InverseDecayLR(_Decay):
    """learning_rate / (1 + decay_rate * step / decay_steps)."""

    def rate(self, step: int) -> float:
        """Return the rate of the 0-based `step`."""
        return self._peak / (1.0 + self._decay * self._part(step))


class CosineDecayLR(LearningRateSchedule):
    """From max_lr to min_lr in half a cosine of `decay_steps`."""

    def __init__(self, min_lr: float, max_lr: float, decay_steps: int) -> None:
        super().__init__()
        check_range(min_lr, max_lr)
        self._low, self._high = min_lr, max_lr
        self._steps = check_count("decay_steps", decay_steps, least=1)

    def rate(self, step: int) -> float:
        """Return the rate of the 0-based `step`."""
        return cosine(self._low, self._high, min(step, self._steps) / self._steps)


class PolynomialDecayLR(LearningRateSchedule):
    """From one rate to the other as (1 - step / decay_steps)^power."""

    def __init__(
        self,
        learning_rate: float,
        end_learning_rate: float,
        decay_steps: int,
        power: float,
        update_decay_steps: bool = False,
    ) -> None:
        super().__init__()
        self._rates = (
            check_positive("learning_rate", learning_rate),
            check_number("end_learning_rate", end_learning_rate),
        )
        self._steps = check_count("decay_steps", decay_steps, least=1)
        self._power = check_positive("power", power)
        self._is_updated = check_flag("update_decay_steps", update_decay_steps)

    def rate(self, step: int) -> float:
        """Return the rate of the 0-based `step`."""
        return polynomial(
            self._rates, step, self._steps, self._power, is_updated=self._is_updated
        )


class WarmUpLR(LearningRateSchedule):
    """From 0 to learning_rate in a line over `warmup_steps`."""

    def __init__(self, learning_rate: float, warmup_steps: int) -> None:
        super().__init__()
        self._peak = check_positive("learning_rate", learning_rate)
        self._steps = check_count("warmup_steps", warmup_steps, least=1)

    def rate(self, step: int) -> float:
        """Return the rate of the 0-based `step`."""
        return self._peak * min(step, self._steps) / self._steps
