"""The arrays behind a training state: what a rank saves from, and what it loads into.

The one place where checkpoints meet the memory of a running manager.
"""

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from parallel_params.checkpoint.manifest import Key
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.node_memory import NodeMemory
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

    What a node has once, or once per rank, is filled by its ranks together, each a
    part; `spread` then completes the copies.
    """
    for arena in arenas:
        is_copy = arena.node_reduced is not None
        states = arena.role.lane if is_copy else (arena.updated,)
        yield from _parts_of(plan, rank, arena, _weights_to_fill(arena), states)


def parts_held(plan: Plan, rank: int, arenas: Sequence[Arena]) -> Iterator[LivePart]:
    """Yield all that a rank has after a load, or that its node has for it."""
    for arena in arenas:
        is_part = arena.role.is_gathered
        weights = arena.role.own if is_part else Interval(0, arena.bucket.numel)
        yield from _parts_of(plan, rank, arena, (weights,), (arena.updated,))


def _parts_of(
    plan: Plan,
    rank: int,
    arena: Arena,
    weights: Sequence[Interval],
    states: Sequence[Interval],
) -> Iterator[LivePart]:
    """Yield the values of some intervals of a bucket, and all sums that a rank has."""
    bucket = arena.bucket
    index = plan.mesh.slice_index(rank, bucket.axes)
    for interval in weights:
        for extent, part in bucket.parts_within(interval):
            inside = part.shift(-extent.interval.start)
            yield LivePart(Key(extent.name, "", index), inside, _weight(arena, part))
    for interval in states:
        for extent, part in bucket.parts_within(interval):
            inside = part.shift(-extent.interval.start)
            yield from _states(arena, Key(extent.name, "", index), part, inside)
    for extent, part in bucket.parts_within(arena.updated):
        row, inside = extent.row_numel, part.shift(-extent.interval.start)
        for slot, values in arena.extra_state.get(extent.name, {}).items():
            wanted = Interval(0, row)
            if slot in bucket.row_slots:
                wanted = Interval(inside.start // row, inside.stop // row)
            yield LivePart(Key(extent.name, slot, index), wanted, values)


def spread(
    plan: Plan, rank: int, arena: Arena, node: NodeMemory, filled: Container[Key]
) -> None:
    """Complete this rank's copy of a bucket from what the ranks of its node have read.

    It goes through the node's buffer for reduced gradients, which is free between
    steps, as much at a time as that holds.

    Args:
        plan: of the ranks.
        rank: this one.
        arena: whose copies `parts_to_load` has left incomplete; others are left alone.
        node: the windows.
        filled: what was loaded, the same on all ranks.

    Collective: the ranks of the node, arenas in plan order.
    """
    if arena.node_reduced is None:
        return
    bucket, buffer = arena.bucket, arena.node_reduced.view(np.uint8)
    index = plan.mesh.slice_index(rank, bucket.axes)
    for slot, values in (("", arena.weight), *arena.state.items()):
        # In bytes: the buffer may be smaller than one element of a state.
        item, data = values.itemsize, values.view(np.uint8)
        loaded = [
            _in_bytes(extent.interval, item)
            for extent in bucket.extents
            if Key(extent.name, slot, index) in filled
        ]
        most = max(1, buffer.size)
        for first in range(0, data.size, most) if loaded else ():
            here = Interval(first, min(first + most, data.size))
            wanted = [here.intersect(interval) for interval in loaded]
            for share in (_in_bytes(lane, item) for lane in arena.role.lane):
                for part in (each.intersect(share) for each in wanted):
                    buffer[part.shift(-first).as_slice()] = data[part.as_slice()]
            node.hand_over_gradients()
            for part in wanted:
                data[part.as_slice()] = buffer[part.shift(-first).as_slice()]
            node.hand_over_gradients()


def _in_bytes(interval: Interval, item_bytes: int) -> Interval:
    return Interval(interval.start * item_bytes, interval.stop * item_bytes)


def _weights_to_fill(arena: Arena) -> Sequence[Interval]:
    role = arena.role
    if role.is_gathered:
        return (role.own,)
    if role.has_shared_weight or arena.node_reduced is not None:
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
