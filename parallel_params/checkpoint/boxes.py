"""Parts of a flattened tensor as boxes: ranges of every dim, in C order.

What a rank owns is an interval; other programs' files know boxes alone.
"""

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from parallel_params.plan.interval import Interval


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a tensor whose elements follow each other in C order.

    Attributes:
        offsets: its first index in every dim.
        shape: how far it reaches in every dim.
        interval: which elements of the flattened tensor these are.
    """

    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    interval: Interval


def boxes_of(shape: tuple[int, ...], interval: Interval) -> Iterator[Box]:
    """Cut an interval of a tensor into as few boxes as possible, in order.

    At most 2 n - 1 of them in n dims: the end of a row, whole rows, the begin of one.

    Args:
        shape: of the tensor.
        interval: which of its elements, flattened in C order.

    Examples:
        >>> [box.shape for box in boxes_of((4, 3), Interval(2, 10))]
        [(1, 1), (2, 3), (1, 1)]
    """
    if interval.is_empty:
        return
    if interval.numel == math.prod(shape):
        yield Box((0,) * len(shape), shape, interval)
        return
    row = math.prod(shape[1:])
    first, last = -(-interval.start // row), interval.stop // row
    if first > last:  # inside of one row
        yield from _within_row(shape, last, interval)
        return
    whole = Interval(first * row, last * row)
    yield from _within_row(shape, first - 1, Interval(interval.start, whole.start))
    if first < last:
        origin = (first, *[0] * (len(shape) - 1))
        yield Box(origin, (last - first, *shape[1:]), whole)
    yield from _within_row(shape, last, Interval(whole.stop, interval.stop))


def _within_row(
    shape: tuple[int, ...], index: int, interval: Interval
) -> Iterator[Box]:
    if interval.is_empty:
        return
    start = index * math.prod(shape[1:])
    for box in boxes_of(shape[1:], interval.shift(-start)):
        yield Box((index, *box.offsets), (1, *box.shape), box.interval.shift(start))


def snap(shape: tuple[int, ...], cuts: Sequence[int]) -> dict[int, int]:
    """Move cuts of a flattened tensor to where every part between them is one box.

    A part that reaches over the end of a row has to be of whole rows; parts inside of
    one row are cut like a tensor of one dim less. No cut leaves its row, or passes
    another one; parts may lose all of their elements.

    Args:
        shape: of the tensor.
        cuts: in order; where elements are left out, all cuts of a row from its first
            element to its last or none of it.

    Returns:
        By cut, where it goes. A vector's cuts stay, a matrix's go to the nearer row.

    Examples:
        >>> snap((4, 3), (2, 7))
        {2: 3, 7: 6}
        >>> snap((2, 9), (3, 9, 15))
        {9: 9, 3: 3, 15: 15}
    """
    row = math.prod(shape[1:])
    if len(shape) < 2 or not row:
        return {cut: cut for cut in cuts}
    borders = {0, math.prod(shape), *cuts}
    places = {cut: cut for cut in cuts if cut % row == 0}
    for index, inside in groupby((c for c in cuts if c % row), lambda c: c // row):
        places |= _snap_in_row(shape[1:], index * row, [*inside], borders)
    return places


def _snap_in_row(
    shape: tuple[int, ...], start: int, cuts: list[int], borders: Container[int]
) -> dict[int, int]:
    stop = start + math.prod(shape)
    enters, leaves = start not in borders, stop not in borders
    if len(cuts) == 1 and (enters or leaves):
        return {cut: start if cut - start < stop - cut else stop for cut in cuts}
    places = {}
    if enters:
        places[cuts.pop(0)] = start
    if leaves:
        places[cuts.pop()] = stop
    within = snap(shape, [cut - start for cut in cuts])
    return places | {start + cut: start + place for cut, place in within.items()}
