"""Bytes that one rank holds: weights, gradients, optimizer state, work buffers.

Counts what the plan asks for; activations, Python and MPI's own buffers are not in it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parallel_params.plan.bucket import Bucket
from parallel_params.plan.policy import Kind

if TYPE_CHECKING:
    from parallel_params.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBytes:
    """What one rank holds, in bytes.

    Attributes:
        weight: Intervals of weights held between steps.
        gradient: Intervals of gradients held when all are reduced.
        state: Intervals of optimizer state.
        partials: Sums of earlier grains that wait for their partners in the tree.
        receive: The largest buffer that receives a bucket's pieces; used in turn.
        in_flight: What whole buckets in use need at their worst beyond the intervals
            held: gradients before their reduction, weights while they are gathered.
    """

    weight: int
    gradient: int
    state: int
    partials: int
    receive: int
    in_flight: int

    @property
    def work(self) -> int:
        """Buffers that no parameter lives in."""
        return self.partials + self.receive + self.in_flight

    @property
    def total(self) -> int:
        """All of it."""
        return self.weight + self.gradient + self.state + self.work

    def of(self, kind: Kind) -> int:
        """Return the bytes of one kind of storage."""
        return {
            Kind.WEIGHT: self.weight,
            Kind.GRADIENT: self.gradient,
            Kind.STATE: self.state,
        }[kind]


def count_rank_bytes(plan: "Plan", rank: int) -> RankBytes:
    """Return what `rank` holds during a step of `plan`."""
    held = dict.fromkeys(Kind, 0)
    receive = partials = gradient_peak = unshard_peak = 0
    for bucket in plan.buckets:
        item, own = bucket.item_bytes, plan.owned(bucket, rank)
        bytes_held = {
            kind: bucket.item_bytes_of(kind)
            * bucket.num_copies(kind)
            * plan.held(bucket, kind, rank).numel
            for kind in Kind
        }
        whole_gradient = bucket.weight_bytes * bucket.num_copies(Kind.GRADIENT)
        # The reduced intervals of the buckets before this one, and this one whole.
        gradient_peak = max(gradient_peak, held[Kind.GRADIENT] + whole_gradient)
        unshard_peak = max(unshard_peak, bucket.weight_bytes - bytes_held[Kind.WEIGHT])
        partials += whole_gradient * (plan.num_partials - 1)
        if bucket.is_trainable and plan.group_size(bucket) > 1:
            receive = max(receive, item * own.numel * _pieces_received(plan, bucket))
        for kind in Kind:
            held[kind] += bytes_held[kind]
    return RankBytes(
        weight=held[Kind.WEIGHT],
        gradient=held[Kind.GRADIENT],
        state=held[Kind.STATE],
        partials=partials,
        receive=receive,
        in_flight=max(0, gradient_peak - held[Kind.GRADIENT]) + unshard_peak,
    )


def _pieces_received(plan: "Plan", bucket: Bucket) -> int:
    """Return how many ranks' pieces an owner keeps apart: the tree needs them all."""
    is_canonical = plan.policy.reduction == "canonical"
    return plan.group_size(bucket) if is_canonical else 1
