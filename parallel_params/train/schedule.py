"""The learning rate of every step, from the [optim.schedule] table."""

import math

from parallel_params.train.config.optim import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Schedule,
)


def learning_rates(
    schedule: Schedule, *, peak: float, num_steps: int
) -> tuple[float, ...]:
    """Give the rate of each step: up to `peak` in a line, then down by the schedule.

    Args:
        schedule: shape, steps of warm-up, and what is left after the last step.
        peak: the job's `lr`.
        num_steps: steps of the whole run.
    """
    return tuple(_rate(schedule, step, peak, num_steps) for step in range(num_steps))


def _rate(schedule: Schedule, step: int, peak: float, num_steps: int) -> float:
    if isinstance(schedule, ConstantSchedule):
        return peak
    if step < schedule.warmup:
        return peak * (step + 1) / schedule.warmup
    done = (step - schedule.warmup) / max(1, num_steps - schedule.warmup)
    left = _left(schedule, done)
    return peak * (schedule.final + (1.0 - schedule.final) * left)


def _left(schedule: CosineSchedule | LinearSchedule, done: float) -> float:
    if isinstance(schedule, CosineSchedule):
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0 - done
