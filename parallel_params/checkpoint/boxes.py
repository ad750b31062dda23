"""An interval of a flattened tensor as boxes: ranges of every dim, in C order.

What a rank owns is an interval; other programs' files know boxes alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
