"""Add rows in the one fixed order, block by block, so that running sums stay in cache.

The order is that of `runtime/tree.py`: neighbours in pairs, the pairs in pairs, an odd
one waits. What the rows are, peers' gradients in a node's window or pieces received
from other nodes, is the caller's business. A sum is looked at while it is in cache,
when its rows still tell whose fault it is. Nothing here communicates.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.tape import Array

BLOCK = 64 * 1024  # elements; 32 Ki to 128 Ki measured alike


class Fault(NamedTuple):
    """The first element of a sum that is no finite number.

    Attributes:
        element: its number in the sum.
        row: the first one that is not finite there; None if all are.
        is_rounded: whether the sum is finite, and only what it is rounded to is not.
    """

    element: int
    row: int | None
    is_rounded: bool


class Scratch:
    """Blocks that running sums of a rank pass through, shared by all its buckets."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, np.dtype[np.generic]], Array] = {}

    def block(self, depth: int, like: Array, dtype: "np.dtype[np.generic]") -> Array:
        """Return undefined elements as many as `like` has, at most BLOCK of them."""
        if (depth, dtype) not in self._blocks:
            self._blocks[depth, dtype] = np.empty(BLOCK, dtype)
        return self._blocks[depth, dtype][: like.size]


class RowSum:
    """Sums rows of one length into an array, which may be one of the rows.

    Args:
        rows: [numel] each, in the order of the tree; only read, but for `out`.
        out: [numel] receives the sum.
        scratch: for running sums.
        dtype: of the sum; `out` may be narrower, as may rows that a wire has carried.
    """

    def __init__(
        self,
        rows: Sequence[Array],
        out: Array,
        scratch: Scratch,
        dtype: "np.dtype[np.generic] | None" = None,
    ) -> None:
        self._rows, self._out, self._scratch = tuple(rows), out, scratch
        self._dtype: np.dtype[np.generic] = out.dtype if dtype is None else dtype
        # A group of one: what is to be summed is the sum.
        self._is_done = len(self._rows) == 1 and _is_same(self._rows[0], out)
        same = [i for i, row in enumerate(self._rows) if _is_same(row, out)]
        self._replaced = same[0] if same else None
        # Few bits overflow easily: then every row has to tell. A copy costs a tenth.
        self._is_kept = bool(same) and out.itemsize < 4
        self._is_pair = len(self._rows) == 2 and all(
            row.dtype == self._dtype for row in (*self._rows, out)
        )

    def run(self, *, is_watched: bool) -> Fault | None:
        """Sum everything.

        Args:
            is_watched: whether to look for what is not finite.

        Returns:
            The first fault, if one was looked for and found.
        """
        if not is_watched:
            self._run_unwatched()
            return None
        if self._is_done:
            return self._look()
        # A fault is told, with more than a warning knows.
        with np.errstate(over="ignore", invalid="ignore"):
            if self._is_pair and not self._is_kept:
                return self._run_pair()
            first: Fault | None = None
            for start in range(0, self._out.size, BLOCK):
                first = self._run_block(start, is_watched=first is None) or first
            return first

    def halves(self) -> Iterator[tuple[slice, Array, Array]]:
        """Yield what is added last, part by part; for who does that, and uses the sum.

        Two rows come as they are, the running sums of more in blocks of scratch. All
        rows are of the type of the sum.
        """
        size = self._out.size
        step = size if len(self._rows) == 2 else BLOCK
        half = _half(len(self._rows))
        for start in range(0, size, max(1, step)):
            part = slice(start, min(start + step, size))
            rows = [row[part] for row in self._rows]
            yield part, self._add(rows[:half], 0, None), self._add(rows[half:], 1, None)

    def _look(self) -> Fault | None:
        """Look at the sum of a group of one, which is there."""
        is_small = self._out.size <= BLOCK
        if first_non_finite(self._out) is None if is_small else are_finite(self._out):
            return None
        for start in range(0, self._out.size, BLOCK):
            part = self._out[start : start + BLOCK]
            fault = _find_fault([part], part, start, None)
            if fault is not None:
                return fault
        return None

    def _run_unwatched(self) -> None:
        if self._is_done:
            return
        if self._is_pair:
            # Nothing is read twice, so nothing is to be kept in cache.
            left, right = self._rows
            np.add(left, right, self._out)
            return
        for start in range(0, self._out.size, BLOCK):
            self._run_block(start, is_watched=False)

    def _run_pair(self) -> Fault | None:
        left, right = self._rows
        if add_pair(left, right, self._out):
            return None
        parts = (
            slice(start, start + BLOCK) for start in range(0, self._out.size, BLOCK)
        )
        faults = (
            _find_fault(
                [row[part] for row in self._rows],
                self._out[part],
                part.start,
                self._replaced,
            )
            for part in parts
        )
        return next((fault for fault in faults if fault is not None), None)

    def _run_block(self, start: int, *, is_watched: bool) -> Fault | None:
        part = slice(start, start + BLOCK)
        out: Array = self._out[part]
        rows = [row[part] for row in self._rows]
        is_direct = out.dtype == self._dtype and not (is_watched and self._is_kept)
        total = self._add(rows, 0, out if is_direct else None)
        lost = self._replaced if is_direct else None
        fault = _find_fault(rows, total, start, lost) if is_watched else None
        if total is not out:
            np.copyto(out, total, casting="unsafe")
        if is_watched and fault is None and out.dtype != self._dtype:
            index = first_non_finite(out)
            fault = None if index is None else Fault(start + index, None, True)
        return fault

    def _add(self, rows: Sequence[Array], depth: int, target: Array | None) -> Array:
        """Return the sum in `target`, in scratch of this depth, or the row itself."""
        is_row = len(rows) == 1 and rows[0].dtype == self._dtype
        if is_row and target is None:
            return rows[0]
        if target is None:
            target = self._scratch.block(depth, rows[0], self._dtype)
        if len(rows) == 1:
            np.copyto(target, rows[0], casting="unsafe")
            return target
        half = _half(len(rows))
        left = self._add(rows[:half], depth, None)
        right = self._add(rows[half:], depth + 1, None)
        np.add(left, right, target)
        return target


@kernel(fast="parallel_params.runtime.fast.summing")
def add_pair(left: Array, right: Array, out: Array) -> bool:
    """Put left + right into `out`, and look at the sums while they are in cache.

    Args:
        left: [n] of a floating-point type.
        right: [n] of the same.
        out: [n] of the same; may be one of the two.

    Returns:
        Whether all sums are finite.
    """
    is_finite = True
    for start in range(0, out.size, BLOCK):
        part = slice(start, start + BLOCK)
        total = np.add(left[part], right[part], out[part])
        is_finite = is_finite and first_non_finite(total) is None
    return is_finite


@kernel(fast="parallel_params.runtime.fast.summing")
def are_finite(values: Array) -> bool:
    """Return whether no element of [n] is infinite or no number."""
    starts = range(0, values.size, BLOCK)
    return all(first_non_finite(values[i : i + BLOCK]) is None for i in starts)


def _half(number: int) -> int:
    """Return the largest power of two below a number: the left half of the tree."""
    return 1 << (number - 1).bit_length() - 1


def _find_fault(
    rows: Sequence[Array], total: Array, start: int, lost: int | None
) -> Fault | None:
    """Look at a sum in cache, and at its rows but the one that it was written to."""
    index = first_non_finite(total)
    if index is None:
        return None
    kept = {row: values[index] for row, values in enumerate(rows) if row != lost}
    wrong = [row for row, value in kept.items() if not np.isfinite(value)]
    if not wrong and lost is not None:
        # Less than half a step of the largest number takes nothing finite beyond it.
        limits = np.finfo(total.dtype)
        step = float(limits.max) * 2.0 ** -(limits.nmant + 2)
        if np.isnan(total[index]) or sum(abs(float(v)) for v in kept.values()) < step:
            wrong = [lost]
    return Fault(start + index, wrong[0] if wrong else None, False)


def _is_same(array: Array, other: Array) -> bool:
    return (
        array.dtype == other.dtype
        and array.__array_interface__["data"] == other.__array_interface__["data"]
    )


def first_non_finite(values: Array) -> int | None:
    """Return the index of the first infinite or not-a-number element, if any.

    Args:
        values: [numel] of a floating-point type; meant for blocks in cache.
    """
    # One product with itself tells in one pass. It may overflow without cause, of which
    # `vdot` does not warn as `dot` does.
    if values.dtype.char in "fd" and math.isfinite(np.vdot(values, values)):
        return None
    wrong = np.flatnonzero(~np.isfinite(values))
    return int(wrong[0]) if wrong.size else None
