"""The arrays behind a training state: what a rank saves from, and what it loads into.

The one place where checkpoints meet the memory of a running manager.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from parallel_params.checkpoint.manifest import Key
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.tensor.tape import Array


class LivePart(NamedTuple):
    """Elements of a tensor and the array that has them, or is to get them.

    Attributes:
        key: which tensor.
        interval: which of its elements, flattened in C order.
        values: [interval.numel] a view of an arena.
    """

    key: Key
    interval: Interval
    values: Array


def parts_to_save(plan: Plan, rank: int, arenas: Sequence[Arena]) -> Iterator[LivePart]:
    """Yield what a rank saves: all it owns, as `tensors.saved_by` announces."""
    for arena in arenas:
        bucket, own = arena.bucket, arena.role.own
        index = plan.mesh.slice_index(rank, bucket.axes)
        for extent, part in bucket.parts_within(own):
            name, inside = extent.name, part.shift(-extent.interval.start)
            yield LivePart(Key(name, "", index), inside, _weight(arena, part))
            yield from _states(arena, Key(name, "", index), part, inside)
            extra = arena.extra_state.get(name, {})
            updated = extent.interval.intersect(arena.updated)
            for slot, values in extra.items():
                if slot in bucket.row_slots:
                    row = extent.row_numel
                    rows = Interval(inside.start // row, inside.stop // row)
                    first = (updated.start - extent.interval.start) // row
                    held = values[rows.shift(-first).as_slice()]
                    yield LivePart(Key(name, slot, index), rows, held)
                elif inside.start == 0:
                    whole = Interval(0, extent.row_numel)
                    yield LivePart(Key(name, slot, index), whole, values)


def parts_to_load(plan: Plan, rank: int, arenas: Sequence[Arena]) -> Iterator[LivePart]:
    """Yield what a rank has to fill.

    Weights that a node shares are filled by its ranks together, each a part.
    """
    for arena in arenas:
        bucket = arena.bucket
        index = plan.mesh.slice_index(rank, bucket.axes)
        for interval in _weights_to_fill(arena):
            for extent, part in bucket.parts_within(interval):
                inside = part.shift(-extent.interval.start)
                yield LivePart(
                    Key(extent.name, "", index), inside, _weight(arena, part)
                )
        for extent, part in bucket.parts_within(arena.updated):
            name, inside = extent.name, part.shift(-extent.interval.start)
            yield from _states(arena, Key(name, "", index), part, inside)
            for slot, values in arena.extra_state.get(name, {}).items():
                wanted = Interval(0, extent.row_numel)
                if slot in bucket.row_slots:
                    row = extent.row_numel
                    wanted = Interval(inside.start // row, inside.stop // row)
                yield LivePart(Key(name, slot, index), wanted, values)


def _weights_to_fill(arena: Arena) -> Sequence[Interval]:
    role = arena.role
    if role.is_gathered:
        return (role.own,)
    if role.has_shared_weight:
        return role.lane
    return (Interval(0, arena.bucket.numel),)


def _weight(arena: Arena, part: Interval) -> Array:
    """Return where elements of the bucket are kept between steps."""
    if arena.role.is_gathered:
        own: Array = arena.updated_weight[part.shift(-arena.role.own.start).as_slice()]
        return own
    whole: Array = arena.weight[part.as_slice()]
    return whole


def _states(
    arena: Arena, key: Key, part: Interval, inside: Interval
) -> Iterator[LivePart]:
    """Yield every state of one number per element, for elements of the bucket."""
    place = part.shift(-arena.updated.start).as_slice()
    for slot, values in arena.state.items():
        yield LivePart(key._replace(slot=slot), inside, values[place])
