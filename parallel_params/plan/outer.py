"""The plan of an outer loop: what a round of private steps and one outer step moves.

A *worker* is some neighbouring ranks that train as a world of their own. `every` steps
of the inner plan, which holds for each worker, and one step of the outer plan, which
holds for all ranks, are a *round*.
"""

from dataclasses import dataclass, replace

from parallel_params.errors import PlanError
from parallel_params.plan.cost import estimate
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.number_checks import check_whole_number
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level
from parallel_params.plan.text import format_bytes, format_count, format_table, plural

WORKER = "worker"
"""The axis of the outer mesh along which workers differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterPlan:
    """What is held and sent with an outer loop.

    Attributes:
        inner: the steps of one worker, for its own ranks.
        outer: the outer step, for all ranks: the weights are the anchor.
        every: inner steps of a round.
        direct: what every step would be without an outer loop, for all ranks.
    """

    inner: Plan
    outer: Plan
    every: int
    direct: Plan

    @property
    def num_workers(self) -> int:
        """Number of workers."""
        return self.outer.mesh.size // self.inner.mesh.size

    def round_bytes(self, rank: int) -> int:
        """Return what `rank` sends in a round."""
        inner = self.inner.collectives(rank % self.inner.mesh.size)
        outer = self.outer.collectives(rank)
        return self.every * sum(m.bytes_sent for m in inner) + sum(
            m.bytes_sent for m in outer
        )

    def direct_bytes(self, rank: int) -> int:
        """Return what `rank` would send in as many steps without an outer loop."""
        return self.every * sum(m.bytes_sent for m in self.direct.collectives(rank))

    def describe(self) -> str:
        """Return a page for a person: both plans, and the traffic that is saved."""
        pages = [self.traffic(), "outer step", self.outer.summarise()]
        pages += ["inner step, for one worker", self.inner.describe()]
        return "\n\n".join(page.rstrip() for page in pages) + "\n"

    def traffic(self) -> str:
        """Return what a round sends and what that saves, as a few lines."""
        rows = [["the rank that sends most", "times", "collectives", "bytes"]]
        for name, times, plan in (
            ("inner steps", self.every, self.inner),
            ("outer step", 1, self.outer),
        ):
            classes = estimate(plan).classes
            most = max(classes, key=lambda ranks: ranks.bytes_sent)
            rows.append(
                [
                    name,
                    format_count(times),
                    format_count(times * most.num_collectives),
                    format_bytes(times * most.bytes_sent),
                ]
            )
        head, tail = self.headline().split("; ", 1)
        return "\n".join([head, *format_table(rows, align="<>>>"), f"  {tail}"])

    def headline(self) -> str:
        """Return in a sentence what a round sends and what that saves."""
        plans = (self.inner, self.outer, self.direct)
        inner, outer, direct = (estimate(plan).most_sent for plan in plans)
        a_round, without = self.every * inner + outer, self.every * direct
        return (
            f"{plural(self.num_workers, 'worker')} of "
            f"{plural(self.inner.mesh.size, 'rank')}, an outer step every "
            f"{plural(self.every, 'step')}; a round sends {format_bytes(a_round)}, "
            f"without an outer loop {format_bytes(without)}"
            f"{_say_ratio(without, a_round)}"
        )


def _say_ratio(without: int, a_round: int) -> str:
    if not a_round or without == a_round:
        return ""
    if without > a_round:
        return f", {without / a_round:.3g} times as much"
    return f", {a_round / without:.3g} times less" if without else ""


def shared_names(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which parameters the workers share: trained ones, and statistics.

    A layerwise-parallel parameter is the rank's own where ranks have no second axis;
    where they have one, ranks at the same place of each worker share a slice.

    Args:
        plan: the inner one.
    """
    own = len(plan.mesh.axes) == 1
    shared = [s for s in plan.params if not (own and s.layerwise_parallel)]
    return (
        tuple(spec.name for spec in shared if spec.requires_grad),
        tuple(spec.name for spec in shared if spec.is_statistic),
    )


def outer_mesh(inner: Mesh, num_workers: int, ranks_per_node: int) -> Mesh:
    """Return the mesh of all workers together.

    Raises:
        PlanError: the inner mesh uses the name of the axis of workers.
    """
    if WORKER in inner.axes:
        raise PlanError(
            f"{inner!r} names an axis {WORKER!r}, as the outer loop calls the axis "
            "along which workers differ; give it another name"
        )
    if len(inner.axes) == 1:
        axes = {inner.axes[0]: num_workers * inner.size}
        return Mesh(axes, ranks_per_node=ranks_per_node)
    return Mesh(
        {WORKER: num_workers, **dict(zip(inner.axes, inner.sizes, strict=True))},
        ranks_per_node=ranks_per_node,
        layerwise_axis=inner.layerwise_axis,
        batch_axes=(WORKER, *inner.batch_axes),
    )


def make_outer_plan(inner: Plan, outer: Plan, every: int) -> OuterPlan:
    """Put a round together.

    Raises:
        PlanError: a round has no step, or weights are to be cut.
    """
    check_whole_number(every, "every", least=1)
    num_workers = outer.mesh.size // inner.mesh.size
    grains = inner.policy.grains
    policy = replace(
        inner.policy,
        grains=None if grains is None else grains * num_workers,
        memory_limit_bytes=None,
    )
    direct = make_plan(inner.params, outer.mesh, policy)
    return OuterPlan(inner=inner, outer=outer, every=every, direct=direct)


def check_levels(plan: Plan, which: str) -> None:
    """Refuse to cut weights: an outer step reads and writes every weight whole.

    Raises:
        PlanError: naming the first parameter that would be cut.
    """
    for bucket in plan.buckets:
        if bucket.level is Level.WEIGHT:
            raise PlanError(
                f"level 3 of the {which} steps cuts the weights, and an outer step "
                f"needs each of them whole ({bucket.extents[0].name!r} for one); "
                "choose level 0, 1 or 2"
            )
