"""What one rank must hold under a new plan, and who held it under the old one.

Each answer takes time independent of both worlds. It moves no byte; gradients live for
one step only and are not in it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from parallel_params.errors import PlanError
from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Elements of one parameter that `target` must hold, and where they are now.

    Attributes:
        name: The parameter, by its first name.
        kind: Weight or optimizer state.
        slot: Name of the optimizer state; empty for a weight.
        interval: Elements of the parameter, flattened in C order; for a state of one
            element per row, or of the shape of a row, elements of that state.
        target: The rank of the new plan that holds them.
        source: A rank of the old plan that holds them; None where nobody does, because
            the parameter was not trained or the rule had no such state: it starts anew.
        num_bytes: Size of the piece.
    """

    name: str
    kind: Kind
    slot: str
    interval: Interval
    target: int
    source: int | None
    num_bytes: int

    @property
    def is_copy(self) -> bool:
        """Whether bytes have to travel from one rank to another."""
        return self.source is not None and self.source != self.target


def pieces_of_rank(
    old: Plan, new: Plan, rank: int, *, is_live: bool = False
) -> Iterator[Piece]:
    """Yield the pieces of one rank of `new`, in time independent of both worlds.

    Args:
        old: The plan that says where everything is.
        new: The plan that says where everything is to be.
        rank: Of the new plan.
        is_live: Whether one world leaves the old plan for the new one. Then memory that
            the ranks of a node share is read by all of them, and filled by each for its
            lane; else every rank takes all it holds from a rank that holds it.

    Raises:
        PlanError: as `transfer`.
    """
    for bucket in new.buckets:
        yield from pieces_of_bucket(old, new, bucket, rank, is_live=is_live)


def pieces_of_bucket(
    old: Plan, new: Plan, bucket: Bucket, rank: int, *, is_live: bool = False
) -> Iterator[Piece]:
    """Yield those of `pieces_of_rank` that lie in one bucket of `new`."""
    slice_index = new.mesh.slice_index(rank, bucket.axes)
    for extent in bucket.extents:
        check_same_parameter(old, new, extent.name)
        source = _Source(old, extent.name, slice_index, is_live=is_live)
        for need in _needs(new, bucket, extent, rank, is_live=is_live):
            pieces = source.find(bucket, need)
            if need.slot in bucket.row_slots:
                pieces = _in_rows(pieces, extent.row_numel)
            yield from pieces


def _needs(
    new: Plan, bucket: Bucket, extent: Extent, rank: int, *, is_live: bool
) -> Iterator[Piece]:
    """Yield what a rank must hold of a parameter, still without sources.

    What is kept per row is given in elements of the whole rows.
    """
    row = Interval(0, extent.row_numel)
    state = new.held(bucket, Kind.STATE, rank).intersect(extent.interval)
    filled = [new.held(bucket, Kind.WEIGHT, rank)]
    is_windowed = new.is_windowed(bucket, Kind.WEIGHT) and not new.is_gathered(bucket)
    if is_live and is_windowed:
        filled = [*new.lane(bucket, rank)]
    weights = [part.intersect(extent.interval) for part in filled]
    whole_slots = (*bucket.state_slots, *bucket.row_slots)
    copies = [
        (Kind.WEIGHT, "", weight.shift(-extent.interval.start)) for weight in weights
    ]
    if not state.is_empty:
        own = state.shift(-extent.interval.start)
        copies += [(Kind.STATE, slot, own) for slot in whole_slots]
        copies += [(Kind.STATE, slot, row) for slot in bucket.column_slots]
    for kind, slot, interval in copies:
        if not interval.is_empty:
            yield Piece(
                name=extent.name,
                kind=kind,
                slot=slot,
                interval=interval,
                target=rank,
                source=None,
                num_bytes=interval.numel * bucket.item_bytes_of(kind),
            )


def _in_rows(pieces: Iterable[Piece], row_numel: int) -> Iterator[Piece]:
    """Yield pieces of whole rows as pieces of a state of one element per row."""
    for piece in pieces:
        rows = Interval(
            piece.interval.start // row_numel, piece.interval.stop // row_numel
        )
        yield replace(piece, interval=rows, num_bytes=piece.num_bytes // row_numel)


class _Source:
    """Where the values of one parameter are under the old plan.

    Args:
        old: The old plan.
        name: The parameter.
        slice_index: Which of its slices is wanted, if it is layerwise-parallel.
        is_live: See `pieces_of_rank`.
    """

    def __init__(
        self, old: Plan, name: str, slice_index: int, *, is_live: bool
    ) -> None:
        self._old, self._is_live = old, is_live
        self._bucket, self._extent = old.bucket_of(name), old.extent_of(name)
        # What all ranks shared is where every slice starts from.
        self._slice = 0 if _num_slices(old, name) == 1 else slice_index

    def find(self, target: Bucket, need: Piece) -> Iterator[Piece]:
        """Yield `need` in pieces that one rank each of the old plan holds.

        Args:
            target: The bucket of the new plan that asks.
            need: What it asks for.
        """
        bucket, extent = self._bucket, self._extent
        if _shape_of(bucket, need.slot) != _shape_of(target, need.slot):
            yield need
            return
        if need.slot in bucket.column_slots:
            yield replace(need, source=self._holder_of_part(need.target))
            return
        wanted = need.interval.shift(extent.interval.start)
        if self._holds(need, wanted):
            yield replace(need, source=need.target)
            return
        start = wanted.start
        while start < wanted.stop:
            source, stop = self._owner(start)
            part = Interval(start, min(stop, wanted.stop))
            yield cut_piece(need, part.shift(-extent.interval.start), source)
            start = part.stop

    def _holds(self, need: Piece, wanted: Interval) -> bool:
        """Tell whether the target itself held all that is wanted, of the same slice."""
        if not self._is_of_slice(need.target):
            return False
        old, bucket = self._old, self._bucket
        if self._is_live and need.kind is Kind.WEIGHT and not old.is_gathered(bucket):
            return True
        return old.held(bucket, need.kind, need.target).intersect(wanted) == wanted

    def _is_of_slice(self, rank: int) -> bool:
        """Tell whether a rank was there, with the values of the slice."""
        if rank >= self._old.mesh.size:
            return False
        return self._slice == self._old.mesh.slice_index(rank, self._bucket.axes)

    def _owner(self, element: int) -> tuple[int, int]:
        """Return the rank that owns an element, and where its part ends."""
        old, bucket = self._old, self._bucket
        position = bucket.owner_of(
            element, old.group_size(bucket), alignment=old.policy.alignment
        )
        rank = old.mesh.member(bucket.axes, position=position, slice_index=self._slice)
        return rank, old.owned_at(bucket, position).stop

    def _holder_of_part(self, target: int) -> int:
        """Return a rank that held some state; the target itself if it did.

        Whoever moves a part of the parameter has its states of the shape of a row.
        """
        if self._is_of_slice(target):
            held = self._old.held(self._bucket, Kind.STATE, target)
            if not held.intersect(self._extent.interval).is_empty:
                return target
        return self._owner(self._extent.interval.start)[0]


def _shape_of(bucket: Bucket, slot: str) -> str | None:
    """Return which list of a bucket's states has a slot; None for weights too."""
    lists = ("state_slots", "row_slots", "column_slots")
    return next((name for name in lists if slot in getattr(bucket, name)), None)


def cut_piece(piece: Piece, interval: Interval, source: int | None) -> Piece:
    """Return a part of a piece, from another source."""
    item_bytes = piece.num_bytes // piece.interval.numel
    return replace(
        piece,
        interval=interval,
        source=source,
        num_bytes=interval.numel * item_bytes,
    )


def check_same_parameter(old: Plan, new: Plan, name: str) -> None:
    """Raise unless the values of a parameter can be moved from one plan to another.

    Raises:
        PlanError: as `transfer`.
    """
    before, after = old.spec(name), new.spec(name)
    for field in ("shape", "dtype"):
        found, expected = getattr(before, field), getattr(after, field)
        if found != expected:
            raise PlanError(
                f"parameter {name!r}: {field} {found} in the old plan, {expected} in "
                "the new one. A transfer moves values; it does not convert them"
            )
    slices = [_num_slices(plan, name) for plan in (old, new)]
    if slices[0] not in (1, slices[1]):
        raise PlanError(
            f"parameter {name!r} has {slices[0]} different slices in the old plan and "
            f"{slices[1]} in the new one (layerwise_parallel: each rank's own values), "
            "and none of them is right for all. Leave the flag, and use a mesh with as "
            "many ranks along the layerwise axis"
        )


def _num_slices(plan: Plan, name: str) -> int:
    """Return how many different values a parameter has in the world."""
    return plan.mesh.group_size(plan.mesh.others(plan.bucket_of(name).axes))
