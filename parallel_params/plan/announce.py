"""The collectives of one step, in order, with the bytes that each rank sends.

Announces; it sends nothing. The sequence is the contract between the plan and the
runtime, so both the estimate and the ledger's test read it here. It is the order in
which messages are started: those between nodes are waited for later, see
`NUM_FLIGHTS`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from parallel_params.plan.bucket import Bucket
from parallel_params.plan.memory import wire_bytes
from parallel_params.plan.part import Part, part_of

if TYPE_CHECKING:
    from parallel_params.plan.plan import Plan

CollectiveKind = Literal["all_gather", "all_to_all", "reduce_scatter", "hand_over"]

Span = Literal["world", "group", "cross", "node"]
"""Who takes part: all ranks; the group along some axes; the lane of that group, one
rank on each of its nodes; all ranks of the node."""

STATUS_BYTES = 24
"""What every rank tells the world after its last grain: the sum of its losses, the
weight of its samples, and a mark of what it does or that it failed."""

VERDICT_BYTES = 24
"""What every rank tells the world about reduced gradients: where the first infinite
element is, if there is one, and on which rank."""

OBSERVED_BYTES = 8
"""A float64: an element of a statistic as a rank's grains observed it, or a count."""

NODE_BYTES = 8
"""A float64: the sum over one subtree of the leaves of a parameter."""


class Purpose(Enum):
    """Why a collective is issued."""

    STATUS = "tell loss and failures"
    HAND_OVER = "hand over within a node"
    SHARE_STATISTICS = "share statistics"
    REDUCE_GRADIENT = "reduce gradients"
    GATHER_GRADIENT = "gather reduced gradients"
    VERDICT = "judge gradients"
    SHARE_SUMS = "share sums over parameters"
    GATHER_WEIGHT = "gather weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One collective as one rank sees it.

    Attributes:
        kind: The MPI operation, or the hand-over of shared memory.
        purpose: Why it is issued.
        bucket: Index of the bucket, None for what belongs to no bucket.
        span: Who takes part.
        axes: Mesh axes of the group; all of them for the world and the node.
        bytes_sent: By this rank, by the closed formula of the operation.
        bytes_received: By this rank; over a group both sums are equal.
    """

    kind: CollectiveKind
    purpose: Purpose
    bucket: int | None
    span: Span
    axes: tuple[str, ...]
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One collective of a step with its group of ranks, in mesh order."""

    kind: CollectiveKind
    purpose: Purpose
    bucket: int | None
    group: tuple[int, ...]
    bytes_sent: int
    bytes_received: int


def announce_step(plan: "Plan", rank: int) -> Iterator[tuple[int, list[Message]]]:
    """Yield the stages of one step: how often each is run, and its messages in order.

    1. Every grain but the last: weights that are cut over nodes are gathered for the
       forward pass, last bucket first, and again for the backward pass.
    2. The last grain: the same, and streamed gradients are reduced bucket by bucket.
    3. All ranks tell how it went, and what statistics have to follow; the other
       gradients are reduced.
    4. The verdict on the gradients; the sums that rules need, round by round.
    5. The owners' new weights go to all, unless they are gathered for use anyway; the
       statistics have moved.
    """
    step = _Step(plan, rank)
    buckets = plan.buckets
    forward = [message for b in reversed(buckets) for message in step.unshard(b)]
    backward = [message for b in buckets for message in step.unshard(b)]
    yield plan.grains_per_rank - 1, forward + backward
    last = list(forward)
    for bucket in buckets:
        last += step.unshard(bucket)
        if plan.is_streamed(bucket):
            last += step.hand_over([bucket], bucket.index) + step.reduce(bucket)
    yield 1, last + step.status() + step.statistics()
    late = [b for b in buckets if b.is_trainable and not plan.is_streamed(b)]
    whole = [b for b in late if not b.is_updated_in_parts]
    exchange = step.hand_over(late)
    before: list[Message] = []
    for bucket in late:
        # The sum of one bucket goes round while the next one is brought.
        exchange += step.reduce(bucket) + before
        before = [] if bucket.is_updated_in_parts else step.complete(bucket)
    yield 1, exchange + before
    yield 1, step.verdict() + step.hand_over(whole) + step.rounds()
    published = [
        b for b in buckets if b.is_updated_in_parts and not plan.is_gathered(b)
    ]
    weights = [message for b in published for message in step.publish(b)]
    moved = [plan.bucket_of(spec.name) for spec in plan.params if spec.is_statistic]
    yield 1, weights + step.hand_over(published) + step.hand_over(moved)


class _Step:
    """The closed formula of each collective, for one rank of one plan."""

    def __init__(self, plan: "Plan", rank: int) -> None:
        self._plan = plan
        self._rank = rank
        self._parts = [part_of(plan, bucket, rank) for bucket in plan.buckets]

    def unshard(self, bucket: Bucket) -> list[Message]:
        """Gather weights for use, where the nodes hold parts of them."""
        if not self._plan.is_gathered(bucket):
            return []
        return self.publish(bucket) + self.hand_over([bucket], bucket.index)

    def publish(self, bucket: Bucket) -> list[Message]:
        """Gather a lane of weights from the nodes that own its parts."""
        return self._gather_lane(Purpose.GATHER_WEIGHT, bucket)

    def complete(self, bucket: Bucket) -> list[Message]:
        """Gather a lane of the reduced gradient, which every rank needs whole."""
        return self._gather_lane(Purpose.GATHER_GRADIENT, bucket)

    def reduce(self, bucket: Bucket) -> list[Message]:
        """Bring the nodes' sums of a lane to its owners."""
        num_others = self._plan.lattice(bucket).num_nodes - 1
        part, item = self._part(bucket), wire_bytes(self._plan, bucket)
        is_canonical = self._plan.policy.reduction == "canonical"
        message = Message(
            kind="all_to_all" if is_canonical else "reduce_scatter",
            purpose=Purpose.REDUCE_GRADIENT,
            bucket=bucket.index,
            span="cross",
            axes=bucket.axes,
            bytes_sent=item * (part.lane - part.own),
            bytes_received=item * part.own * num_others,
        )
        return [message] if num_others else []

    def hand_over(
        self, buckets: list[Bucket], index: int | None = None
    ) -> list[Message]:
        """Let the ranks of the node see what they wrote of these buckets, at once."""
        message = Message(
            kind="hand_over",
            purpose=Purpose.HAND_OVER,
            bucket=index,
            span="node",
            axes=self._plan.mesh.axes,
            bytes_sent=0,
            bytes_received=0,
        )
        is_shared = any(self._plan.lattice(b).num_local > 1 for b in buckets)
        return [message] if is_shared else []

    def status(self) -> list[Message]:
        """Tell all ranks the loss, and whether this one can go on."""
        world = self._plan.mesh.size * STATUS_BYTES
        axes = self._plan.mesh.axes
        return self._tell(Purpose.STATUS, "world", axes, STATUS_BYTES, world)

    def statistics(self) -> list[Message]:
        """Tell all ranks what the grains observed of every statistic, and how often."""
        found = [spec.numel + 1 for spec in self._plan.params if spec.is_statistic]
        if not found:
            return []
        own, mesh = OBSERVED_BYTES * sum(found), self._plan.mesh
        return self._tell(
            Purpose.SHARE_STATISTICS, "world", mesh.axes, own, own * mesh.size
        )

    def verdict(self) -> list[Message]:
        """Tell all ranks what is wrong with the gradients, and how long they are."""
        plan, policy = self._plan, self._plan.policy
        if not policy.has_verdict:
            return []
        own, world = VERDICT_BYTES, plan.mesh.size * VERDICT_BYTES
        if policy.clip is not None and policy.clip.norm is not None:
            for bucket in plan.buckets:
                if bucket.is_trainable:
                    num_slices = plan.mesh.size // plan.group_size(bucket)
                    own += NODE_BYTES * plan.num_nodes_of(bucket, self._rank)
                    world += NODE_BYTES * plan.num_nodes_of_all(bucket) * num_slices
        return self._tell(Purpose.VERDICT, "world", plan.mesh.axes, own, world)

    def rounds(self) -> list[Message]:
        """Share what rules sum over whole parameters, one message per round and group.

        Parameters that every rank updates whole need none: each rank sums them alone.
        """
        cut = [b for b in self._plan.buckets if b.is_updated_in_parts and b.rounds]
        messages = []
        for number in range(max((len(b.rounds) for b in cut), default=0)):
            sums: dict[tuple[str, ...], tuple[int, int]] = {}
            for bucket in cut:
                if number < len(bucket.rounds):
                    item = NODE_BYTES * bucket.rounds[number]
                    own, group = sums.get(bucket.axes, (0, 0))
                    own += item * self._plan.num_nodes_of(bucket, self._rank)
                    group += item * self._plan.num_nodes_of_all(bucket)
                    sums[bucket.axes] = own, group
            for axes, (own, group) in sums.items():
                messages += self._tell(Purpose.SHARE_SUMS, "group", axes, own, group)
        return messages

    def _gather_lane(self, purpose: Purpose, bucket: Bucket) -> list[Message]:
        num_others = self._plan.lattice(bucket).num_nodes - 1
        part = self._part(bucket)
        message = Message(
            kind="all_gather",
            purpose=purpose,
            bucket=bucket.index,
            span="cross",
            axes=bucket.axes,
            bytes_sent=bucket.item_bytes * part.own * num_others,
            bytes_received=bucket.item_bytes * (part.lane - part.own),
        )
        return [message] if num_others else []

    def _tell(
        self,
        purpose: Purpose,
        span: Span,
        axes: tuple[str, ...],
        own_bytes: int,
        all_bytes: int,
    ) -> list[Message]:
        num_others = self._plan.mesh.group_size(axes) - 1
        message = Message(
            kind="all_gather",
            purpose=purpose,
            bucket=None,
            span=span,
            axes=axes,
            bytes_sent=own_bytes * num_others,
            bytes_received=all_bytes - own_bytes,
        )
        return [message] if num_others else []

    def _part(self, bucket: Bucket) -> Part:
        return self._parts[bucket.index]
