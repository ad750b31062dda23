"""Stretches of a bucket's buffer that one call of an optimizer rule moves."""

from collections.abc import Mapping
from dataclasses import dataclass

from parallel_params.optim.settings import Settings
from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.interval import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A stretch of the bucket's buffer whose parameters are moved by one call."""

    interval: Interval
    settings: Settings
    extent: Extent


def make_runs(
    bucket: Bucket,
    updated: Interval,
    settings: Mapping[str, Settings],
    *,
    is_by_parameter: bool = False,
) -> tuple[Run, ...]:
    """Cut the updated interval where the settings of the parameters change.

    Args:
        bucket: whose parameters.
        updated: the interval to cut.
        settings: by parameter name.
        is_by_parameter: also cut between parameters of equal settings.
    """
    runs: list[Run] = []
    for extent in bucket.extents:
        part = extent.interval.intersect(updated)
        if part.is_empty:
            continue
        wanted = settings[extent.name]
        if (
            runs
            and not is_by_parameter
            and runs[-1].settings == wanted
            and runs[-1].interval.stop == part.start
        ):
            last = runs.pop()
            part, extent = Interval(last.interval.start, part.stop), last.extent
        runs.append(Run(interval=part, settings=wanted, extent=extent))
    return tuple(runs)
