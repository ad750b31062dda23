"""What reduces and updates each bucket, and names for the elements of its gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.flights import Flights
from parallel_params.runtime.reducer import Reducer, flight_bytes
from parallel_params.runtime.stepper import Stepper
from parallel_params.runtime.verdict import NonFinite, is_known_by_node
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


def name_element(plan: Plan, arena: Arena, index: int, position: int) -> NonFinite:
    """Say whose an element of a reduced gradient is that is not finite.

    Args:
        plan: of the arena.
        arena: whose gradient.
        index: in the bucket.
        position: in the bucket's group, of the member that contributed it.
    """
    extent = next(
        e for e in arena.bucket.extents if e.interval.start <= index < e.interval.stop
    )
    rank = arena.role.local_ranks[0]
    return NonFinite(
        name=extent.name,
        index=index - extent.interval.start,
        rank=plan.mesh.group(rank, arena.bucket.axes)[position],
        bucket=arena.bucket.index,
        is_of_node=is_known_by_node(plan, arena.bucket),
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
    return [
        Reducer(
            arena.role,
            flights,
            dtype=arena.dtype,
            wire=wire,
            is_canonical=is_canonical,
        )
        for arena in arenas
    ]
