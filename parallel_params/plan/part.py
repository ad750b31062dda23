"""How much of a bucket is one rank's: what its bytes and its messages follow from.

Numbers alone, so ranks of equal parts are ranks of equal cost. Which elements they are
is asked of the plan.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parallel_params.plan.bucket import Bucket
from parallel_params.plan.interval import Interval
from parallel_params.plan.rows import Numbers

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


def parts_of_many(layout: "Layout", bucket: Bucket, ranks: Numbers) -> Numbers:
    """Return what sets the parts of ranks in one bucket apart.

    Args:
        layout: Of all ranks.
        bucket: One of its buckets.
        ranks: [n] of them.

    Returns:
        [n, 4] own, lane, rows and columns, each 0 where it is alike or follows from the
        others: ranks of equal parts have equal numbers.
    """
    positions = _positions(layout, bucket, ranks)
    num_owners = layout.group_size(bucket)
    parts = np.zeros((len(ranks), 4), np.int64)
    if bucket.structure == "row":
        table = bucket.row_table()
        cuts = table.cuts(num_owners)
        parts[:, 0] = np.diff(cuts)[positions]
        if bucket.is_updated_in_parts and (bucket.row_slots or bucket.column_slots):
            parts[:, 2:] = np.stack(table.count(cuts), axis=1)[positions]
    else:
        borders = sorted(bucket.borders(num_owners, alignment=layout.policy.alignment))
        runs = np.searchsorted(borders, positions, side="right")
        # Not `np.unique`, which loads NumPy's masked arrays: 3 MB of every rank.
        for run in np.flatnonzero(np.bincount(runs)):
            is_in = runs == run
            own = layout.owned_at(bucket, int(positions[is_in][0]))
            parts[is_in, 0] = own.numel
    lattice = layout.lattice(bucket)
    if lattice.num_local > 1 and lattice.num_nodes > 1:
        lanes = [layout.lane_numel(bucket, k) for k in range(lattice.num_local)]
        parts[:, 1] = np.array(lanes, np.int64)[positions % lattice.num_local]
    return parts


def _positions(layout: "Layout", bucket: Bucket, ranks: Numbers) -> Numbers:
    mesh, positions = layout.mesh, np.zeros_like(ranks)
    places = np.unravel_index(ranks, mesh.sizes)
    for axis, length, place in zip(mesh.axes, mesh.sizes, places, strict=True):
        if axis in bucket.axes:
            positions = positions * length + place
    return positions
