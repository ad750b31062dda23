"""How a bucket is cut between rows, for all positions of a group at once.

Positions differ from one to the next, so there is no short formula, but one for arrays.
Whose positions these are, and what they hold, is not known here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from parallel_params.plan.bucket import Extent

Numbers = NDArray[np.int64]


class RowTable:
    """The rows of the parameters of one bucket.

    Args:
        extents: Of the bucket, dense.
    """

    def __init__(self, extents: "Sequence[Extent]") -> None:
        filled = [extent for extent in extents if not extent.interval.is_empty]
        self._starts = _array([extent.interval.start for extent in filled])
        self._row_numels = _array([extent.row_numel for extent in filled])
        self._rows_before = _sums([extent.num_rows for extent in filled])
        self._columns_before = _sums([extent.row_numel for extent in filled])
        self._numel = extents[-1].interval.stop

    def cuts(self, num_owners: int) -> Numbers:
        """Return where each position begins: the row that has its even share's start.

        Returns:
            [num_owners + 1] elements, from 0 to all; the last one ends the last part.
        """
        positions = np.arange(num_owners + 1, dtype=np.int64)
        # In two terms, because elements times positions may need more than 64 bits.
        share, rest = divmod(self._numel, num_owners)
        elements = positions * share + positions * rest // num_owners
        inside = elements[:-1]
        if self._numel:
            extent = self._extent_at(inside)
            inside -= (inside - self._starts[extent]) % self._row_numels[extent]
        return elements

    def count(self, cuts: Numbers) -> tuple[Numbers, Numbers]:
        """Return the rows between cuts, and the row lengths of the parameters there.

        Args:
            cuts: [n + 1] as `cuts` returns them.

        Returns:
            [n] numbers of rows, and [n] sums of the elements of one row of each
            parameter that lies between the cuts or is cut by them.
        """
        if not self._numel:
            nothing = np.zeros(len(cuts) - 1, np.int64)
            return nothing, nothing
        extent = self._extent_at(cuts)
        inside = (cuts - self._starts[extent]) // self._row_numels[extent]
        rows = np.diff(self._rows_before[extent] + inside)
        first, last = extent[:-1], self._extent_at(cuts[1:] - 1)
        columns = self._columns_before[last + 1] - self._columns_before[first]
        return rows, np.where(np.diff(cuts) > 0, columns, 0)

    def _extent_at(self, elements: Numbers) -> NDArray[np.intp]:
        return np.searchsorted(self._starts, elements, side="right") - 1


def _array(values: Sequence[int]) -> Numbers:
    return np.array(values, np.int64)


def _sums(values: Sequence[int]) -> Numbers:
    """Return the sum of the values before each, and of all."""
    return np.cumsum(_array([0, *values]))
