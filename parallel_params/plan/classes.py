"""Which ranks of a plan are alike, found from borders instead of by asking each rank.

Two things tell ranks apart: how much they own, which changes at few places of a group,
and how much their lane owns, which repeats from node to node. So nodes come in few
kinds, and each kind in few blocks of ranks.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from parallel_params.plan.bucket import Bucket
from parallel_params.plan.layout import Layout
from parallel_params.plan.mesh import Mesh


@dataclass(frozen=True, slots=True)
class RankBlock:
    """Neighbouring ranks, and those at the same place of the next nodes.

    Attributes:
        first: The first rank.
        length: How many neighbours.
        stride: Ranks from one node to the next.
        count: How many nodes.
    """

    first: int
    length: int
    stride: int
    count: int

    @property
    def num_ranks(self) -> int:
        """Number of ranks."""
        return self.length * self.count

    @property
    def last(self) -> int:
        """The last rank."""
        return self.first + self.stride * (self.count - 1) + self.length - 1

    @property
    def is_run(self) -> bool:
        """Whether no other rank lies between its first and its last one."""
        return self.last - self.first + 1 == self.num_ranks

    def __iter__(self) -> Iterator[int]:
        for start in range(
            self.first, self.first + self.stride * self.count, self.stride
        ):
            yield from range(start, start + self.length)


def join_runs(blocks: Iterable[RankBlock]) -> tuple[RankBlock, ...]:
    """Return the blocks with neighbouring runs of ranks made one."""
    joined: list[RankBlock] = []
    for block in blocks:
        before = joined[-1] if joined else None
        if before and before.is_run and block.is_run and before.last + 1 == block.first:
            joined.pop()
            length = before.num_ranks + block.num_ranks
            block = RankBlock(before.first, length, length, 1)
        joined.append(block)
    return tuple(joined)


def different_buckets(layout: Layout) -> tuple[Bucket, ...]:
    """Return one of all the buckets that every rank has the same part of."""
    found = {
        (
            bucket.shape,
            bucket.is_updated_in_parts,
            bool(bucket.row_slots or bucket.column_slots),
        ): bucket
        for bucket in layout.buckets
    }
    return tuple(found.values())


def kinds_of_nodes(layout: Layout) -> Iterator[list[RankBlock]]:
    """Yield the nodes in order, those alike at once, as blocks of ranks alike.

    The blocks of one item cover its nodes; all have the same number of nodes.
    """
    mesh = layout.mesh
    per_node = min(mesh.ranks_per_node, mesh.size)
    starts = sorted(_starts(layout))
    offsets = _offsets(layout, per_node)
    node = 0
    while node < mesh.num_nodes:
        first = node * per_node
        stop = min(first + per_node, mesh.size)
        inside = starts[bisect_left(starts, first) : bisect_left(starts, stop)]
        count = 1
        if not inside and stop - first == per_node:
            behind = bisect_left(starts, stop)
            limit = starts[behind] if behind < len(starts) else mesh.size
            count = max(1, (limit - first) // per_node)
        cuts = {first, *inside, *(first + offset for offset in offsets)}
        edges = [*sorted(cut for cut in cuts if cut < stop), stop]
        yield [
            RankBlock(left, right - left, per_node, count)
            for left, right in pairwise(edges)
        ]
        node += count


def _starts(layout: Layout) -> set[int]:
    """Return the ranks at which the part that is owned of some bucket may change."""
    borders: dict[tuple[str, ...], set[int]] = {}
    for bucket in different_buckets(layout):
        num_owners = layout.group_size(bucket)
        borders.setdefault(bucket.axes, set()).update(
            border
            for border in bucket.borders(num_owners, alignment=layout.policy.alignment)
            if 0 < border < num_owners
        )
    starts = {0}
    for axes, positions in borders.items():
        if positions:
            starts.update(_ranks_at(layout.mesh, axes, positions))
    return starts


def _ranks_at(mesh: Mesh, axes: tuple[str, ...], positions: set[int]) -> Iterator[int]:
    """Yield the ranks at which a position along `axes` comes up, or starts over."""
    if axes == mesh.axes:
        yield from positions
        return
    others = mesh.others(axes)
    is_leading = mesh.axes[: len(axes)] == axes
    # Along leading axes the position rises with the rank, and the first slice comes up
    # first. Along others it starts over in every block of ranks.
    for index in range(1 if is_leading else mesh.group_size(others)):
        for position in positions:
            yield mesh.member(axes, position=position, slice_index=index)
    if not is_leading:
        inner = mesh.axes[mesh.axes.index(others[-1]) + 1 :]
        yield from range(0, mesh.size, mesh.group_size(inner))


def _offsets(layout: Layout, per_node: int) -> set[int]:
    """Return the places in a node at which the numel of some lane changes."""
    offsets = set()
    for bucket in different_buckets(layout):
        lattice = layout.lattice(bucket)
        if lattice.num_local == 1 or lattice.num_nodes == 1:
            continue
        before = None
        for rank in range(per_node):
            lane = lattice.lane(layout.mesh.position(rank, bucket.axes))
            numel = layout.lane_numel(bucket, lane)
            if numel != before:
                offsets.add(rank)
            before = numel
    return offsets
