"""The schedule of a job, from an [optim.schedule] table and the steps of the run."""

from collections.abc import Callable, Mapping
from typing import NoReturn, TypeAlias

from parallel_params.errors import ConfigError
from parallel_params.optim import schedules
from parallel_params.optim.plateau import Mode, Plateau
from parallel_params.train.config.schedules import (
    ConstantSchedule,
    CosineRestartsSchedule,
    CosineSchedule,
    ExponentialSchedule,
    InverseSqrtSchedule,
    LinearSchedule,
    MultiStepSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    PolynomialSchedule,
    Schedule,
    StepSchedule,
    WsdSchedule,
)

Made: TypeAlias = "schedules.ScheduleLike | Plateau"


def learning_rates(
    schedule: Schedule, *, peak: float, num_steps: int
) -> tuple[float, ...]:
    """Give the rate of each step, as far as it is known before the run.

    Args:
        schedule: shape, steps of warm-up, and what is left after the last step.
        peak: the job's `lr`.
        num_steps: steps of the whole run.

    Raises:
        ConfigError: the run is too short for the schedule.
    """
    made = make_schedule(schedule, peak=peak, num_steps=num_steps)
    return tuple(made(step) for step in range(num_steps))


def make_schedule(
    schedule: Schedule,
    *,
    peak: float,
    num_steps: int,
    mode: Mode = "min",
    key: str = "optim.schedule",
) -> Made:
    """Make the schedule of a table.

    Args:
        schedule: the table.
        peak: the `lr` it is of.
        num_steps: steps of the whole run.
        mode: whether less of the test score is better, for `plateau`.
        key: where the table stands, for messages.

    Raises:
        ConfigError: the run is too short for the schedule.
    """
    if isinstance(schedule, OneCycleSchedule):
        _check_fits(key, "a cycle of", 2, num_steps)
        return schedules.OneCycle(
            peak, num_steps, schedule.rise, schedule.start_div, schedule.final_div
        )
    if schedule.warmup >= num_steps:
        _refuse(
            f"{key}.warmup",
            f"{schedule.warmup} steps of warm-up leave none of the run's {num_steps}",
        )
    behind = num_steps - schedule.warmup
    then = _SHAPES[type(schedule)](schedule, peak, behind, key)
    made: Made = schedules.WarmUp(then, schedule.warmup) if schedule.warmup else then
    if not isinstance(schedule, PlateauSchedule):
        return made
    return Plateau(
        made,
        factor=schedule.factor,
        patience=schedule.patience,
        threshold=schedule.threshold,
        mode=mode,
        cooldown=schedule.cooldown,
        least=schedule.least,
    )


def _check_fits(key: str, what: str, needed: int, num_steps: int) -> None:
    if needed > num_steps:
        _refuse(key, f"{what} {needed} steps does not fit in {num_steps}")


def _refuse(key: str, what: str) -> NoReturn:
    raise ConfigError([f"{key}: {what}; shorten it, or train longer"])


def _multi_step(
    table: MultiStepSchedule, peak: float, num_steps: int, key: str
) -> schedules.MultiStep:
    late = [m for m in table.milestones if m >= num_steps]
    if late:
        what = f"{late[0]} is not reached in {num_steps} steps behind the warm-up"
        _refuse(f"{key}.milestones", what)
    try:
        return schedules.MultiStep(peak, table.milestones, table.gamma)
    except ValueError as error:
        raise ConfigError([f"{key}.milestones: {error}"]) from None


def _wsd(table: WsdSchedule, peak: float, num_steps: int, key: str) -> schedules.Wsd:
    _check_fits(f"{key}.decay", "a decay of", table.decay, num_steps)
    return schedules.Wsd(peak, num_steps, table.decay, table.final, table.shape)


_SHAPES: Mapping[type, Callable[..., schedules.ScheduleLike]] = {
    ConstantSchedule: lambda t, peak, n, key: schedules.Constant(peak),
    PlateauSchedule: lambda t, peak, n, key: schedules.Constant(peak),
    LinearSchedule: lambda t, peak, n, key: schedules.Linear(peak, n, t.final),
    CosineSchedule: lambda t, peak, n, key: schedules.Cosine(peak, n, t.final),
    PolynomialSchedule: lambda t, peak, n, key: schedules.Polynomial(
        peak, n, t.final, t.power
    ),
    CosineRestartsSchedule: lambda t, peak, n, key: schedules.CosineRestarts(
        peak, t.period, t.factor, t.final
    ),
    InverseSqrtSchedule: lambda t, peak, n, key: schedules.InverseSquareRoot(
        peak, t.timescale or t.warmup or 1
    ),
    StepSchedule: lambda t, peak, n, key: schedules.StepDecay(peak, t.every, t.gamma),
    ExponentialSchedule: lambda t, peak, n, key: schedules.Exponential(
        peak, t.gamma, t.every
    ),
    MultiStepSchedule: _multi_step,
    WsdSchedule: _wsd,
}
