"""Buckets: parameters that travel in one collective, and which position owns what.

A bucket answers for positions of a group, 0 to n - 1. Which ranks these are is the
mesh's business, how the flags chose a bucket is `plan.py`'s.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from parallel_params.plan.interval import Interval, split_cuts, split_lane, split_part
from parallel_params.plan.policy import Kind, Level
from parallel_params.plan.rows import RowTable
from parallel_params.plan.spec import ITEM_BYTES, Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Where one parameter lies in the flat buffer of its bucket, in C order.

    Attributes:
        name: The parameter, by its first name.
        interval: Its place in elements of the buffer.
        row_numel: Elements that a `row` rule keeps together.
        owner: The group position that owns all of it under a `matrix` rule, else None.
    """

    name: str
    interval: Interval
    row_numel: int
    owner: int | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows with elements."""
        return self.interval.numel // max(1, self.row_numel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Parameters of one dtype, rule structure and group in one flat buffer.

    Attributes:
        index: Its place in the plan: the order in which gradients become ready.
        axes: Mesh axes it is reduced over; without any, each rank has its own values.
        level: What is cut of it; `NOTHING` when it is kept whole.
        dtype: Of weights and gradients; optimizer state has four bytes at least.
        structure: Where it may be cut.
        is_trainable: Whether there are gradients and optimizer state at all.
        state_slots: Names of its per-element optimizer states.
        extents: Dense, from element 0.
        row_slots: Names of its optimizer states of one element per row of dim 0.
        column_slots: Names of those of one element per element of a row.
        rounds: Numbers that its rule sums over each whole parameter, round by round.
        optimizer: Which of several optimizers moves it; 0 if none does.
    """

    index: int
    axes: tuple[str, ...]
    level: Level
    dtype: str
    structure: Structure
    is_trainable: bool
    state_slots: tuple[str, ...]
    extents: tuple[Extent, ...]
    row_slots: tuple[str, ...] = ()
    column_slots: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()
    optimizer: int = 0

    @property
    def numel(self) -> int:
        """Elements of the buffer."""
        return self.extents[-1].interval.stop

    @property
    def item_bytes(self) -> int:
        """Bytes per element of weights and gradients."""
        return ITEM_BYTES[self.dtype]

    def item_bytes_of(self, kind: Kind) -> int:
        """Return the bytes per element of one kind of storage.

        Rules compute in float32 at least, and keep their state in what they compute in:
        an average that moves by a thousandth does not move in bfloat16.
        """
        if kind is Kind.STATE:
            return max(self.item_bytes, ITEM_BYTES["float32"])
        return self.item_bytes

    @property
    def shape(self) -> object:
        """What its cuts follow from: buckets of equal shape are cut alike."""
        places = [(e.interval, e.row_numel, e.owner) for e in self.extents]
        return self.axes, self.structure, tuple(places)

    @property
    def weight_bytes(self) -> int:
        """Bytes of one whole copy of its weights."""
        return self.numel * self.item_bytes

    @property
    def is_sharded(self) -> bool:
        """Whether its level cuts anything; else it is held whole by its group."""
        return self.level > Level.NOTHING

    @property
    def is_updated_in_parts(self) -> bool:
        """Whether each owner updates its own interval only."""
        return self.is_trainable and self.is_sharded

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of all of its optimizer states."""
        return (*self.state_slots, *self.row_slots, *self.column_slots)

    def num_copies(self, kind: Kind) -> int:
        """Return how many buffers of `kind` there are: one per state slot, say."""
        if kind is Kind.WEIGHT:
            return 1
        if kind is Kind.GRADIENT:
            return int(self.is_trainable)
        return len(self.slots)

    def bytes_of(self, kind: Kind) -> int:
        """Return the bytes of one whole copy of all there is of a kind."""
        if kind is not Kind.STATE:
            return self.weight_bytes * self.num_copies(kind)
        filled = [extent for extent in self.extents if not extent.interval.is_empty]
        numel = (
            self.numel * len(self.state_slots)
            + sum(extent.num_rows for extent in filled) * len(self.row_slots)
            + sum(extent.row_numel for extent in filled) * len(self.column_slots)
        )
        return self.item_bytes_of(kind) * numel

    def owned(self, position: int, num_owners: int, *, alignment: int) -> Interval:
        """Return what one position of the group owns, in closed form.

        Args:
            position: From 0 to `num_owners - 1`.
            num_owners: Size of the group.
            alignment: Elements between possible cuts of an element-wise rule.
        """
        if self.structure == "matrix":
            return self._whole_parameters_of(position)
        if self.structure == "row":
            return Interval(
                self._row_before(position * self.numel // num_owners),
                self._row_before((position + 1) * self.numel // num_owners),
            )
        return split_part(self.numel, num_owners, position, alignment)

    def owner_of(self, element: int, num_owners: int, *, alignment: int) -> int:
        """Return the position that owns an element of the buffer."""
        return bisect_right(
            range(num_owners),
            element,
            key=lambda k: self.owned(k, num_owners, alignment=alignment).stop,
        )

    def lane_numels(
        self, num_owners: int, *, num_local: int, alignment: int
    ) -> Sequence[int]:
        """Return how much the positions k, k + num_local, ... own together, for each k.

        In time of what is owned, not of the owners.
        """
        if self.structure in ("element", "tensor_scalar"):
            return [
                split_lane(self.numel, num_owners, lane, num_local, alignment)
                for lane in range(num_local)
            ]
        if self.structure == "row":
            owned = np.diff(self.row_table().cuts(num_owners))
            lanes: list[int] = owned.reshape(-1, num_local).sum(axis=0).tolist()
            return lanes
        numels = [0] * num_local
        for owner in {extent.owner or 0 for extent in self.extents}:
            own = self.owned(owner, num_owners, alignment=alignment)
            numels[owner % num_local] += own.numel
        return numels

    def parts_within(self, owned: Interval) -> Iterator[tuple[Extent, Interval]]:
        """Yield the parameters with elements in `owned`, and which elements these are.

        In time independent of the number of other parameters.
        """
        first = bisect_right(
            self.extents, owned.start, key=lambda extent: extent.interval.stop
        )
        for extent in islice(self.extents, first, None):
            if extent.interval.start >= owned.stop:
                break
            part = extent.interval.intersect(owned)
            if not part.is_empty:
                yield extent, part

    def borders(self, num_owners: int, *, alignment: int) -> Iterable[int]:
        """Return the positions at which the owned number of elements may change.

        A handful, whatever the size of the group, except for `row`, whose cuts follow
        the rows: what else a position has may change there too.
        """
        if self.structure == "matrix":
            owners = {extent.owner or 0 for extent in self.extents}
            return owners | {owner + 1 for owner in owners}
        if self.structure == "row":
            table = self.row_table()
            cuts = table.cuts(num_owners)
            parts = np.stack([np.diff(cuts), *table.count(cuts)])
            is_new = (parts[:, 1:] != parts[:, :-1]).any(axis=0)
            borders: list[int] = (np.flatnonzero(is_new) + 1).tolist()
            return borders
        num_longer = -(-self.numel // alignment) % num_owners
        return (num_owners - num_longer, num_owners - 1)

    def cuts(self, num_owners: int, *, alignment: int) -> Iterable[int]:
        """Return the elements at which the owner changes, in order, each once.

        In time of what is owned, not of the owners: most of a big group own nothing.
        """
        if self.structure == "matrix":
            starts = {
                self._whole_parameters_of(e.owner or 0).start for e in self.extents
            }
            return sorted(starts - {0, self.numel})
        if self.structure == "row":
            starts = {*self.row_table().cuts(num_owners).tolist()}
            return sorted(starts - {0, self.numel})
        return split_cuts(self.numel, num_owners, alignment)

    def row_table(self) -> RowTable:
        """Return the rows of its parameters, for questions about all positions."""
        return RowTable(self.extents)

    def _whole_parameters_of(self, position: int) -> Interval:
        def key(extent: Extent) -> int:
            return extent.owner or 0

        first = bisect_left(self.extents, position, key=key)
        behind = bisect_right(self.extents, position, key=key)
        return Interval(self._start_of(first), self._start_of(behind))

    def _start_of(self, index: int) -> int:
        """Return where extent `index` starts, or the end of the buffer behind all."""
        if index == len(self.extents):
            return self.numel
        return self.extents[index].interval.start

    def _row_before(self, element: int) -> int:
        """Return the last border between rows at or before `element`."""
        if element == self.numel:
            return element
        # Extents without elements share their start with the next one: take the last.
        behind = bisect_right(self.extents, element, key=lambda e: e.interval.start)
        extent = self.extents[behind - 1]
        return element - (element - extent.interval.start) % extent.row_numel
