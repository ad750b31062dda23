"""Weights that a one-rank layer keeps packed in one, and that are apart when cut.

A whole layer may have several matrices below each other, for one product. Cut along an
axis they are parameters of their own, each a contiguous slice; drawn from the law, the
shape and the stream of the packed one, they start as its rows.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from parallel_params.tensor import random
from parallel_params.tensor.initializer import Init, Initializer, as_initializer
from parallel_params.tensor.laws import Shape, Values
from parallel_params.tensor.random import Stream
from parallel_params.tensor.tensor import Tensor

T = TypeVar("T")


class RowsOf(Initializer):
    """The law of some rows of a larger tensor.

    Args:
        law: of the larger tensor.
        num_rows: that it has.
        first: of its rows, the first that belongs to us.
    """

    def __init__(self, law: Initializer, num_rows: int, first: int) -> None:
        self.law, self.num_rows, self.first = law, num_rows, first
        # What it draws from is the law's business, of which each kind says it for all.
        self.is_random = law.is_random  # type: ignore[misc]
        self.is_local = law.is_local  # type: ignore[misc]

    def check(self, shape: Shape) -> None:
        """Raise ValueError if the law cannot fill the larger tensor."""
        self.law.check(self._whole(shape))

    def values(
        self, shape: Shape, start: int, stop: int, stream: Stream | None
    ) -> Values:
        """Return elements [start, stop) of our rows."""
        skip = self.first * math.prod(shape[1:])
        return self.law.values(self._whole(shape), skip + start, skip + stop, stream)

    def _whole(self, shape: Shape) -> Shape:
        return (self.num_rows, *shape[1:])


def packed_parts(
    law: Init, rows: Sequence[int], make: Callable[[int, Init], T]
) -> list[T]:
    """Make cells whose weights start as the parts of one packed weight.

    Args:
        law: of the packed weight.
        rows: of each part, one below the other.
        make: makes the cell of a part from its number of rows and its law; its weight
            is the first that draws random numbers.
    """
    if isinstance(law, Tensor):
        return [make(num, law) for num in rows]
    whole, mark = as_initializer(law), random.get_mark()
    made: list[T] = []
    first = 0
    for num in rows:
        if made:  # the numbers of the packed weight again
            with random.replay(mark):
                made.append(make(num, RowsOf(whole, sum(rows), first)))
        else:
            made.append(make(num, RowsOf(whole, sum(rows), first)))
        first += num
    return made
