"""Bytes that one rank holds: weights, gradients, optimizer state, work buffers.

Counts what the plan asks for; activations, Python and MPI's own buffers are not in it.
Memory that the ranks of a node share is counted once: each rank counts its lane of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parallel_params.plan.bucket import Bucket
from parallel_params.plan.gathers import find_releases, first_declared, largest_live
from parallel_params.plan.part import Part, part_of
from parallel_params.plan.policy import Kind
from parallel_params.plan.spec import ITEM_BYTES

if TYPE_CHECKING:
    from parallel_params.plan.plan import Plan

NUM_SLOTS = 2
"""Streamed buckets in use at a time: one computed with, one on its way."""

NUM_FLIGHTS = 2
"""Messages between nodes that are under way at a time, each in memory of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBytes:
    """What one rank holds, in bytes.

    Attributes:
        weight: Intervals of weights held between steps.
        gradient: Intervals of gradients held when all are reduced.
        state: Intervals of optimizer state.
        partials: Sums of earlier grains that wait for their partners in the tree.
        send: The largest lanes on their way between nodes, of every flight.
        receive: The largest buffers that receive a bucket's pieces, of every flight.
        reduced: The lanes of reduced gradients that the node's ranks read whole.
        in_flight: Buckets in use: two slots of streamed gradients, weights of
            neighbours that are gathered.
    """

    weight: int
    gradient: int
    state: int
    partials: int
    send: int
    receive: int
    reduced: int
    in_flight: int

    @property
    def work(self) -> int:
        """Buffers that no parameter lives in."""
        buffers = self.partials + self.send + self.receive
        return buffers + self.reduced + self.in_flight

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
    shares = [(bucket, part_of(plan, bucket, rank)) for bucket in plan.buckets]
    return RankBytes(
        weight=sum(_weight_bytes(plan, *share) for share in shares),
        gradient=sum(_gradient_bytes(plan, *share) for share in shares),
        state=sum(_state_bytes(*share) for share in shares),
        partials=sum(_partial_bytes(plan, bucket) for bucket in plan.buckets),
        send=NUM_FLIGHTS
        * max((_send_bytes(plan, *share) for share in shares), default=0),
        receive=NUM_FLIGHTS
        * max((_receive_bytes(plan, *share) for share in shares), default=0),
        reduced=sum(_reduced_bytes(plan, *share) for share in shares),
        in_flight=_slot_bytes(plan) + _live_bytes(plan, shares),
    )


def wire_bytes(plan: "Plan", bucket: Bucket) -> int:
    """Return the bytes of an element of a gradient on its way between nodes."""
    if plan.policy.wire_dtype is None:
        return bucket.item_bytes
    return min(bucket.item_bytes, ITEM_BYTES[plan.policy.wire_dtype])


def _weight_bytes(plan: "Plan", bucket: Bucket, part: Part) -> int:
    if plan.is_gathered(bucket):
        return bucket.item_bytes * part.own
    if plan.is_windowed(bucket, Kind.WEIGHT):
        return bucket.item_bytes * part.lane
    return bucket.weight_bytes


def _gradient_bytes(plan: "Plan", bucket: Bucket, part: Part) -> int:
    if not bucket.is_trainable:
        return 0
    numel = part.own if plan.is_streamed(bucket) else bucket.numel
    return bucket.item_bytes * numel


def _state_bytes(bucket: Bucket, part: Part) -> int:
    numel = (
        part.updated * len(bucket.state_slots)
        + part.rows * len(bucket.row_slots)
        + part.columns * len(bucket.column_slots)
    )
    return bucket.item_bytes_of(Kind.STATE) * numel


def _partial_bytes(plan: "Plan", bucket: Bucket) -> int:
    """Return the bytes of what waits while the grains of a rank are summed.

    A binary counter. Without streaming its last buffer is the gradient itself; with it
    the last grain comes in a slot, so it has to count the earlier grains alone.
    """
    if not bucket.is_trainable:
        return 0
    num_buffers = plan.num_partials - 1
    if plan.is_streamed(bucket):
        num_buffers = (plan.grains_per_rank - 1).bit_length()
    return bucket.weight_bytes * num_buffers


def _send_bytes(plan: "Plan", bucket: Bucket, part: Part) -> int:
    """Return the bytes of a lane that is put together to be sent, or received in.

    With one member a node it is the bucket itself, unless what travels is narrower.
    """
    lattice = plan.lattice(bucket)
    if lattice.num_nodes == 1:
        return 0
    if lattice.num_local > 1 and (bucket.is_trainable or plan.is_gathered(bucket)):
        return bucket.item_bytes * part.lane
    wire = wire_bytes(plan, bucket)
    return wire * part.lane if wire < bucket.item_bytes and bucket.is_trainable else 0


def _receive_bytes(plan: "Plan", bucket: Bucket, part: Part) -> int:
    """Return the bytes of the pieces of all nodes: the tree needs them apart."""
    num_nodes = plan.lattice(bucket).num_nodes
    if not bucket.is_trainable or num_nodes == 1:
        return 0
    if plan.policy.reduction == "fast":
        return bucket.item_bytes * part.own
    return wire_bytes(plan, bucket) * part.own * num_nodes


def _reduced_bytes(plan: "Plan", bucket: Bucket, part: Part) -> int:
    is_read_whole = bucket.is_trainable and not bucket.is_updated_in_parts
    is_shared = plan.lattice(bucket).num_local > 1
    return bucket.item_bytes * part.lane if is_read_whole and is_shared else 0


def _slot_bytes(plan: "Plan") -> int:
    streamed = [b.weight_bytes for b in plan.buckets if plan.is_streamed(b)]
    return NUM_SLOTS * max(streamed, default=0)


def _live_bytes(plan: "Plan", shares: Sequence[tuple[Bucket, Part]]) -> int:
    """Return the bytes of the weights of neighbours in use, once per node."""
    declared = {spec.name: position for position, spec in enumerate(plan.params)}
    gathered = sorted(
        (share for share in shares if plan.is_gathered(share[0])),
        key=lambda share: first_declared(share[0], declared),
    )
    if not gathered:
        return 0
    return largest_live(
        sizes=[bucket.item_bytes * part.lane for bucket, part in gathered],
        is_shared=[plan.lattice(bucket).num_local > 1 for bucket, _ in gathered],
        releases=find_releases(
            [[extent.name for extent in bucket.extents] for bucket, _ in gathered],
            declared,
        ),
    )
