"""What a rank would read of a checkpoint, and what of that it had itself: a forecast.

From plans and sources alone; no file is opened, no byte moves.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from parallel_params.checkpoint.manifest import Key
from parallel_params.checkpoint.matching import Matches
from parallel_params.checkpoint.sources import Anew, Span
from parallel_params.plan.bucket import Bucket
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind
from parallel_params.plan.spec import ITEM_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """Bytes of weights and state that one rank holds after a load.

    Attributes:
        read: from the checkpoint.
        had: of these, what the rank of this number held when it was saved.
        anew: what begins at zero.
    """

    read: int
    had: int
    anew: int


def reads_of(old: Plan, new: Plan, rank: int, matches: Matches) -> Reads:
    """Return what a rank would read.

    Args:
        old: of the ranks that saved.
        new: of the ranks that would load.
        rank: one of these.
        matches: what comes from where.
    """
    read = had = anew = 0
    for bucket in new.buckets:
        for key, interval in _held(new, bucket, rank):
            source = matches.sources.get(key)
            if isinstance(source, Anew):
                state_bytes = bucket.item_bytes_of(Kind.STATE)
                anew += interval.numel * state_bytes
            elif source is not None:
                for span in source.spans(interval):
                    item_bytes = ITEM_BYTES[span.stored.dtype]
                    read += span.there.numel * item_bytes
                    had += _overlap(old, rank, span) * item_bytes
    return Reads(read=read, had=had, anew=anew)


def _held(plan: Plan, bucket: Bucket, rank: int) -> Iterator[tuple[Key, Interval]]:
    """Yield which elements of which tensors a rank holds in a bucket."""
    index = plan.mesh.slice_index(rank, bucket.axes)
    for extent, part in bucket.parts_within(plan.held(bucket, Kind.WEIGHT, rank)):
        yield Key(extent.name, "", index), part.shift(-extent.interval.start)
    if not bucket.is_trainable:
        return
    for extent, part in bucket.parts_within(plan.held(bucket, Kind.STATE, rank)):
        inside, row = part.shift(-extent.interval.start), extent.row_numel
        for slot in bucket.state_slots:
            yield Key(extent.name, slot, index), inside
        for slot in bucket.row_slots:
            rows = Interval(inside.start // row, inside.stop // row)
            yield Key(extent.name, slot, index), rows
        for slot in bucket.column_slots:
            yield Key(extent.name, slot, index), Interval(0, row)


def _overlap(old: Plan, rank: int, span: Span) -> int:
    """Return how many elements of a span the rank held when they were saved."""
    key = span.stored.key
    if rank >= old.mesh.size:
        return 0
    bucket = old.bucket_of(key.name)
    return sum(
        interval.intersect(span.there).numel
        for held, interval in _held(old, bucket, rank)
        if held == key
    )
