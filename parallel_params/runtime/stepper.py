"""The optimizer step on the interval of a bucket that this rank updates.

Neighbouring parameters with equal settings are updated by one call of the rule: the
number of calls follows the settings, not the number of parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parallel_params.optim.optimizer import Settings
from parallel_params.optim.rule import Rule
from parallel_params.plan.bucket import Bucket
from parallel_params.plan.interval import Interval
from parallel_params.runtime.arena import Arena
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A stretch of the bucket's buffer whose parameters share their settings."""

    interval: Interval
    settings: Settings


def make_runs(
    bucket: Bucket, updated: Interval, settings: Mapping[str, Settings]
) -> tuple[Run, ...]:
    """Cut the updated interval where the settings of the parameters change."""
    runs: list[Run] = []
    for extent in bucket.extents:
        part = extent.interval.intersect(updated)
        if part.is_empty:
            continue
        wanted = settings[extent.name]
        if (
            runs
            and runs[-1].settings == wanted
            and runs[-1].interval.stop == part.start
        ):
            part = Interval(runs.pop().interval.start, part.stop)
        runs.append(Run(interval=part, settings=wanted))
    return tuple(runs)


class Stepper:
    """Applies a rule to the updated interval of one arena.

    Args:
        arena: weights and state, changed in place.
        rule: the update.
        settings: of every parameter of the bucket, by name.
    """

    def __init__(
        self, arena: Arena, rule: Rule, settings: Mapping[str, Settings]
    ) -> None:
        self._rule = rule
        start = arena.updated.start
        self._calls = [
            (
                run.interval.shift(-start).as_slice(),
                arena.weight[run.interval.as_slice()],
                {
                    slot: values[run.interval.shift(-start).as_slice()]
                    for slot, values in arena.state.items()
                },
                run.settings,
            )
            for run in make_runs(arena.bucket, arena.updated, settings)
        ]

    def apply(
        self,
        gradient: Array,
        *,
        step: int,
        rates: Sequence[float],
        gradient_scale: float,
    ) -> None:
        """Update weights and state.

        Args:
            gradient: [updated numel] the reduced gradient of the updated interval.
            step: 1 for the first step.
            rates: learning rate per group of the optimizer.
            gradient_scale: the gradient meant is this times `gradient`.
        """
        for part, weight, state, settings in self._calls:
            self._rule.update(
                weight,
                gradient[part],
                state,
                step=step,
                learning_rate=rates[settings.group],
                weight_decay=settings.weight_decay,
                gradient_scale=gradient_scale,
            )
