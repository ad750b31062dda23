"""How much of a bucket is one rank's: what its bytes and its messages follow from.

Numbers alone, so ranks of equal parts are ranks of equal cost. Which elements they are
is asked of the plan.
"""

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from parallel_params.plan.bucket import Bucket
from parallel_params.plan.interval import Interval

if TYPE_CHECKING:
    from parallel_params.plan.layout import Layout


class Part(NamedTuple):
    """One rank's part in one bucket.

    Attributes:
        own: Elements that it owns.
        lane: Elements that its lane owns: its part of the node's memory.
        updated: Elements that it updates: its own, or all.
        rows: Rows that it updates, where the rule has a state per row.
        columns: Elements of a row of each parameter that it updates a part of, where
            the rule has a state of that shape.
    """

    own: int
    lane: int
    updated: int
    rows: int
    columns: int


def part_of(layout: "Layout", bucket: Bucket, rank: int) -> Part:
    """Return the part of `rank` in `bucket`."""
    position = layout.mesh.position(rank, bucket.axes)
    own = layout.owned_at(bucket, position)
    updated = own if bucket.is_updated_in_parts else Interval(0, bucket.numel)
    rows, columns = _count_rows(bucket, updated)
    lane = _lane_numel(layout, bucket, position, own.numel)
    return Part(own.numel, lane, updated.numel, rows, columns)


def _count_rows(bucket: Bucket, updated: Interval) -> tuple[int, int]:
    rows = columns = 0
    if bucket.row_slots or bucket.column_slots:
        for extent, part in bucket.parts_within(updated):
            rows += part.numel // extent.row_numel
            columns += extent.row_numel
    return rows, columns


def _lane_numel(layout: "Layout", bucket: Bucket, position: int, own_numel: int) -> int:
    lattice = layout.lattice(bucket)
    if lattice.num_local == 1:
        return bucket.numel
    if lattice.num_nodes == 1:
        return own_numel
    return layout.lane_numel(bucket, lattice.lane(position))


class Parts:
    """The parts of many ranks in one bucket, each different one looked up once.

    Args:
        layout: of all ranks.
        bucket: one of its buckets.
    """

    def __init__(self, layout: "Layout", bucket: Bucket) -> None:
        self._layout = layout
        self._bucket = bucket
        alignment = layout.policy.alignment
        num_owners = layout.group_size(bucket)
        self._borders = sorted(bucket.borders(num_owners, alignment=alignment))
        self._known: dict[int, Part] = {}
        # Of what every rank updates whole, one is known of all.
        self._whole: Part | None = None

    def key(self, rank: int) -> tuple[Part, int]:
        """Return something that is equal for ranks of equal parts."""
        position = self._layout.mesh.position(rank, self._bucket.axes)
        run = bisect_right(self._borders, position)
        if run not in self._known:
            self._known[run] = self._part(rank, position)
        part = self._known[run]
        return part, _lane_numel(self._layout, self._bucket, position, part.own)

    def _part(self, rank: int, position: int) -> Part:
        if self._whole is not None:
            own = self._layout.owned_at(self._bucket, position)
            return self._whole._replace(own=own.numel)
        part = part_of(self._layout, self._bucket, rank)._replace(lane=0)
        if not self._bucket.is_updated_in_parts:
            self._whole = part
        return part
