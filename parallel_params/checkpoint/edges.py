"""Layout `shards`: who writes what, and the elements that ranks hand over for that.

A file of PyTorch's DCP has one box of a tensor; what a rank owns may begin and end
inside of a row. So the borders of what is written go to those of rows, and a rank gets
the few elements that it writes and does not own from the owner beside it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from parallel_params.checkpoint.boxes import snap
from parallel_params.checkpoint.live import LivePart
from parallel_params.checkpoint.manifest import Key
from parallel_params.checkpoint.tensors import Described
from parallel_params.comm.protocol import Communicator, Rank
from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array

ROUND_BYTES = 2 << 20
"""What one rank hands to another at once: memory for it is all that a save takes."""


class Share(NamedTuple):
    """What a rank writes of a tensor that it owns a part of.

    Attributes:
        written: which elements; one box, or none.
        given: what it owns and others write.
        taken: what it writes and others own.
    """

    written: Interval
    given: tuple[tuple[Rank, Interval], ...]
    taken: tuple[tuple[Rank, Interval], ...]


def shares_of(plan: Plan, rank: Rank) -> Iterator[tuple[Key, Share]]:
    """Yield what a rank writes of each tensor that several ranks own parts of."""
    for bucket in plan.buckets:
        index = plan.mesh.slice_index(rank, bucket.axes)
        for extent, part in bucket.parts_within(plan.owned(bucket, rank)):
            if part != extent.interval:
                share = _share(plan, rank, bucket, extent, part)
                for slot in ("", *bucket.state_slots):
                    yield Key(extent.name, slot, index), share


def _share(
    plan: Plan, rank: Rank, bucket: Bucket, extent: Extent, part: Interval
) -> Share:
    start, stop = extent.interval.start, extent.interval.stop
    size, alignment = plan.group_size(bucket), plan.policy.alignment
    # Where cuts go is settled row by row, so those of other rows do not matter.
    row = (stop - start) // plan.spec(extent.name).shape[0]
    low = part.start - (part.start - start) % row
    high = part.stop + (start - part.stop) % row
    every = [*bucket.cuts(size, alignment=alignment)]
    near = every[bisect_left(every, low) : bisect_right(every, high)]
    cuts = [cut - start for cut in near if start < cut < stop]
    places = snap(plan.spec(extent.name).shape, cuts)
    before = [low - start, *cuts, high - start]
    behind = [low - start, *(places[cut] for cut in cuts), high - start]
    owned = [Interval(*pair) for pair in pairwise(before)]
    written = [Interval(*pair) for pair in pairwise(behind)]
    own = owned.index(part.shift(-start))
    ranks = plan.group(bucket, rank)
    given: list[tuple[Rank, Interval]] = []
    taken: list[tuple[Rank, Interval]] = []
    for number, (theirs, wanted) in enumerate(zip(owned, written, strict=True)):
        if number == own or theirs.is_empty:
            continue
        position = bucket.owner_of(theirs.start + start, size, alignment=alignment)
        for moves, moved in (
            (given, owned[own].intersect(wanted)),
            (taken, written[own].intersect(theirs)),
        ):
            if not moved.is_empty:
                moves.append((ranks[position], moved))
    return Share(written[own], tuple(given), tuple(taken))


class _Moved(NamedTuple):
    """Elements of a tensor on their way from one rank to another."""

    key: Key
    interval: Interval
    dtype: np.dtype[np.generic]

    @property
    def num_bytes(self) -> int:
        return self.interval.numel * self.dtype.itemsize


class Edges:
    """What one rank writes of its own, and what it gives to others and takes from them.

    Args:
        plan: of the ranks.
        rank: this one.
        parts: what it owns; views that do not change before the last `swap`.
        tensors: all that are saved.

    Attributes:
        parts: what it owns and writes.
        written: by tensor, which elements it writes, those of others included.
    """

    def __init__(
        self,
        plan: Plan,
        rank: Rank,
        parts: Iterable[LivePart],
        tensors: Iterable[Described],
    ) -> None:
        shares = dict(shares_of(plan, rank))
        self.parts: list[LivePart] = []
        self.written: dict[Key, Interval] = {}
        self._own: dict[Key, LivePart] = {}
        for part in parts:
            share = shares.get(part.key, Share(part.interval, (), ()))
            if not share.written.is_empty:
                self.written[part.key] = share.written
            kept = share.written.intersect(part.interval)
            if not kept.is_empty:
                self.parts.append(part._replace(interval=kept, values=_of(part, kept)))
            if share.given:
                self._own[part.key] = part
        dtypes = {each.key: dtype_named(each.dtype).numpy for each in tensors}
        given: list[list[_Moved]] = [[] for _ in range(plan.mesh.size)]
        taken: list[list[_Moved]] = [[] for _ in range(plan.mesh.size)]
        for key, share in shares.items():
            for moves, ranks in ((share.given, given), (share.taken, taken)):
                for other, interval in moves:
                    ranks[other].append(_Moved(key, interval, dtypes[key]))
        self._given = [_in_rounds(each) for each in given]
        self._taken = [_in_rounds(each) for each in taken]

    @property
    def num_rounds(self) -> int:
        """How many rounds this rank has to give or to take; others may have more."""
        return max(map(len, (*self._given, *self._taken)))

    @property
    def taken_bytes(self) -> int:
        """Bytes that this rank takes in all rounds."""
        return sum(_num_bytes(moves) for rounds in self._taken for moves in rounds)

    def swap(self, comm: Communicator, num_rounds: int) -> Iterator[list[LivePart]]:
        """Give and take round by round, and yield what was taken.

        Args:
            comm: all ranks.
            num_rounds: of the rank that has most.

        Collective: all ranks, to the end.
        """
        for number in range(num_rounds):
            given = [_round(rounds, number) for rounds in self._given]
            taken = [_round(rounds, number) for rounds in self._taken]
            sent = [
                _of(self._own[key], interval).view(np.uint8)
                for moves in given
                for key, interval, _ in moves
            ]
            received = np.empty(sum(map(_num_bytes, taken)), np.uint8)
            comm.all_to_all(
                np.concatenate([np.empty(0, np.uint8), *sent]),
                [_num_bytes(moves) for moves in given],
                received,
                [_num_bytes(moves) for moves in taken],
            )
            yield [*_parts(received, [each for moves in taken for each in moves])]


def _parts(received: Array, moves: Iterable[_Moved]) -> Iterator[LivePart]:
    first = 0
    for moved in moves:
        last = first + moved.num_bytes
        values = received[first:last].view(moved.dtype)
        yield LivePart(moved.key, moved.interval, values)
        first = last


def _round(rounds: Sequence[list[_Moved]], number: int) -> list[_Moved]:
    return rounds[number] if number < len(rounds) else []


def _num_bytes(moves: Iterable[_Moved]) -> int:
    return sum(moved.num_bytes for moved in moves)


def _of(part: LivePart, interval: Interval) -> Array:
    values: Array = part.values[interval.shift(-part.interval.start).as_slice()]
    return values


def _in_rounds(moves: Iterable[_Moved]) -> list[list[_Moved]]:
    """Share out what moves from one rank to one other; both of them do it alike."""
    rounds: list[list[_Moved]] = []
    room = 0
    for key, whole, dtype in moves:
        step = ROUND_BYTES // dtype.itemsize
        for first in range(whole.start, whole.stop, step):
            piece = _Moved(key, Interval(first, min(first + step, whole.stop)), dtype)
            if piece.num_bytes > room:
                rounds.append([])
                room = ROUND_BYTES
            rounds[-1].append(piece)
            room -= piece.num_bytes
    return rounds
