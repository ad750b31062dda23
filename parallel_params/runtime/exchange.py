"""What reduces and updates each bucket, and names for the elements of its gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.flights import Flights
from parallel_params.runtime.reducer import Finding, Reducer, flight_bytes
from parallel_params.runtime.stepper import Stepper
from parallel_params.runtime.summing import Scratch
from parallel_params.runtime.verdict import NonFinite
from parallel_params.tensor.dtype import dtype_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One trainable bucket with what reduces and what updates it."""

    arena: Arena
    reducer: Reducer
    stepper: Stepper
    scale: float
    """On the reduced gradient; not 1 only for parameters that fewer ranks share than
    the mean is taken over."""

    def start_publishing(self) -> None:
        """Start to bring the new weights to the other nodes, if they go there.

        Collective: the cross group.
        """
        if self.arena.role.gathers_weight:
            self.reducer.start_gather(self.arena.weight)


def name_finding(plan: Plan, arena: Arena, finding: Finding) -> NonFinite:
    """Say which parameter's element was found, and on which rank.

    Args:
        plan: of the arena.
        arena: whose gradient.
        finding: in the bucket of the arena.
    """
    extent = next(
        e
        for e in arena.bucket.extents
        if e.interval.start <= finding.element < e.interval.stop
    )
    rank = arena.role.local_ranks[0]
    return NonFinite(
        parameter=[spec.name for spec in plan.params].index(extent.name),
        element=finding.element - extent.interval.start,
        cause=finding.cause,
        rank=plan.mesh.group(rank, arena.bucket.axes)[finding.position],
    )


def _wire_of(plan: Plan) -> "np.dtype[np.generic] | None":
    name = plan.policy.wire_dtype
    return None if name is None else dtype_named(name).numpy


def make_flights(plan: Plan, arenas: Sequence[Arena]) -> Flights:
    """Allocate what carries the messages of all buckets in turn."""
    is_canonical, wire = plan.policy.reduction == "canonical", _wire_of(plan)
    num_bytes = [
        flight_bytes(arena.role, arena.dtype, is_canonical=is_canonical, wire=wire)
        for arena in arenas
    ]
    return Flights(max(num_bytes, default=0))


def make_reducers(
    plan: Plan, arenas: Sequence[Arena], flights: Flights
) -> list[Reducer]:
    """Make what sums the gradients of every bucket, and gathers its weights."""
    is_canonical, wire = plan.policy.reduction == "canonical", _wire_of(plan)
    scratch = Scratch()
    return [
        Reducer(
            arena.role,
            flights,
            dtype=arena.dtype,
            wire=wire,
            is_canonical=is_canonical,
            is_watched=plan.policy.is_watching,
            scratch=scratch,
        )
        for arena in arenas
    ]
