"""What one rank has to do for one bucket: read off the plan once, then only executed.

A group's ranks lie on N nodes with L members each; this rank is member k of node n. Its
*lane* are the intervals that the k-th members of all nodes own: what it sums inside its
node, exchanges with the other nodes, and writes into its node's memory.
"""

from dataclasses import dataclass

from parallel_params.comm.protocol import Communicator
from parallel_params.plan.bucket import Bucket
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind
from parallel_params.runtime.groups import Groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One bucket as one rank sees it.

    Attributes:
        bucket: what lies where.
        position: of this rank in the bucket's group.
        num_ranks: of the group.
        num_nodes: N, over which the group lies.
        local_ranks: the L members on this node, in group order; world ranks.
        lane: what this rank's column of members owns, one interval per node.
        own: what this rank owns.
        updated: what this rank updates: its own interval, or all.
        cross: the same member of every node; None if N is 1.
        is_streamed: reduced during backward, bucket by bucket.
        is_gathered: cut over nodes, so gathered for use.
        has_shared_weight: its weights lie once on the node, in the window.
    """

    bucket: Bucket
    position: int
    num_ranks: int
    num_nodes: int
    local_ranks: tuple[int, ...]
    lane: tuple[Interval, ...]
    own: Interval
    updated: Interval
    cross: Communicator | None
    is_streamed: bool
    is_gathered: bool
    has_shared_weight: bool

    @property
    def num_local(self) -> int:
        """L, the members of the group on this node."""
        return len(self.local_ranks)

    @property
    def node(self) -> int:
        """Which of the group's nodes this is."""
        return self.position // self.num_local

    @property
    def local(self) -> int:
        """Which of its node's members this rank is."""
        return self.position % self.num_local

    @property
    def lane_counts(self) -> tuple[int, ...]:
        """Elements of the lane, per node."""
        return tuple(interval.numel for interval in self.lane)

    @property
    def is_whole(self) -> bool:
        """Whether every rank updates all of it, on weights of its own."""
        return self.bucket.is_trainable and not self.bucket.is_updated_in_parts

    @property
    def gathers_sum(self) -> bool:
        """Whether the reduced gradient goes round between the nodes."""
        return self.cross is not None and self.is_whole

    @property
    def gathers_weight(self) -> bool:
        """Whether its new weights go round between the nodes, to lie whole on each."""
        return (
            self.cross is not None
            and not self.is_gathered
            and self.bucket.is_updated_in_parts
        )

    @property
    def needs_reduced(self) -> bool:
        """Whether the node gathers the reduced gradient in a buffer for all."""
        return self.is_whole and self.num_local > 1


def role_of(plan: Plan, bucket: Bucket, rank: int, groups: Groups) -> Role:
    """Read one rank's part in one bucket off the plan."""
    own = plan.owned(bucket, rank)
    lattice = plan.lattice(bucket)
    in_parts = bucket.is_updated_in_parts
    is_gathered = bucket.level.cuts(Kind.WEIGHT) and lattice.num_nodes > 1
    shared = lattice.num_local > 1 and (in_parts or not bucket.is_trainable)
    return Role(
        bucket=bucket,
        position=plan.mesh.position(rank, bucket.axes),
        num_ranks=plan.group_size(bucket),
        num_nodes=lattice.num_nodes,
        local_ranks=plan.local_group(bucket, rank),
        lane=plan.lane(bucket, rank),
        own=own,
        updated=own if in_parts else Interval(0, bucket.numel),
        cross=groups.of(plan.cross_group(bucket, rank)),
        is_streamed=plan.is_streamed(bucket),
        is_gathered=is_gathered,
        has_shared_weight=shared,
    )
