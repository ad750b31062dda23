"""The windows of images as matrices: patches side by side, and results beside them.

A block is some whole samples, or some rows of results of one where a sample is too
large. Its patches are [groups, taps, results], where results run over samples, rows and
columns: a convolution is a product with that.

Where the columns' stride is 1, a row of results is taken as wide as the padded input:
then one tap of all results of a sample is one run of memory, and copying patches costs
next to nothing. The results at the end of such a row, whose windows reach into the next
one, are left out of what is written, and have gradients of zero.

Source: the layout is im2col of Chellapilla et al., High performance convolutional
neural networks for document processing (2006).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parallel_params.tensor.tape import Array
from parallel_params.tensor.window import Window

# Elements of the patches of a block, 1 MiB of float32: a smaller one means more calls.
BLOCK = 1 << 18
# The least share of a wide row that must be results: the others cost products, too.
_LEAST_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Place:
    """Which results a block has.

    Attributes:
        samples: those it has results of.
        rows: those of their rows of results.
        is_last: whether these are the last rows of the samples.
    """

    samples: slice
    rows: slice
    is_last: bool


class Patches:
    """The patches of images, block by block.

    Args:
        x: [N, C, H, W], C-contiguous.
        rows: how the window slides along H.
        cols: how it slides along W.
        groups: the channels are cut into so many parts.

    Attributes:
        width: results that a row has in a block: at least `cols.count`.
    """

    def __init__(self, x: Array, rows: Window, cols: Window, groups: int) -> None:
        self._x, self._rows, self._cols = x, rows, cols
        num_samples, channels = x.shape[:2]
        self._is_trivial = rows.is_trivial and cols.is_trivial
        is_wide = cols.stride == 1 and _LEAST_SHARE * cols.padded <= cols.count
        self.width = cols.padded if is_wide else cols.count
        self._taps = channels, rows.kernel, cols.kernel
        self._by_group = groups, math.prod(self._taps) // groups
        row_numel = max(1, math.prod(self._taps) * self.width)
        self._num_rows = min(rows.count, max(1, BLOCK // row_numel))
        self._num_samples = 1
        if not self._is_trivial:
            sample_numel = max(1, row_numel * rows.count)
            self._num_samples = max(1, min(num_samples, BLOCK // sample_numel))
        self._sums: Array | None = None
        self._memory = self._zeros()
        numel = row_numel * self._num_rows * self._num_samples
        self._room = np.empty(0 if self._is_trivial else numel, x.dtype)

    def _zeros(self) -> Array:
        """Return memory for some padded samples: [samples, C, padded H * padded W].

        The windows of no result end behind the last row, hence some elements more.
        """
        numel = self._rows.padded * self._cols.padded + self._cols.extent - 1
        return np.zeros((self._num_samples, self._taps[0], numel), self._x.dtype)

    def _padded(self, memory: Array) -> Array:
        rows, cols = self._rows.padded, self._cols.padded
        return memory[:, :, : rows * cols].reshape(*memory.shape[:2], rows, cols)

    def _inner(self, memory: Array) -> Array:
        """Return what is no padding: [samples, C, H, W]."""
        top, left = self._rows.before, self._cols.before
        bottom, right = top + self._rows.length, left + self._cols.length
        return self._padded(memory)[:, :, top:bottom, left:right]

    def _view(self) -> Array:
        """Return all windows: [C, KH, KW, samples, rows, width], not to be written."""
        rows, cols = self._rows, self._cols
        sample, channel, row, col = self._padded(self._memory).strides
        return np.lib.stride_tricks.as_strided(
            self._memory,
            (*self._taps, self._num_samples, rows.count, self.width),
            (
                channel,
                row * rows.dilation,
                col * cols.dilation,
                sample,
                row * rows.stride,
                col * cols.stride,
            ),
            writeable=False,
        )

    def blocks(self, *, is_filled: bool = True) -> Iterator[tuple[Place, Array]]:
        """Yield which results a block has, and its patches.

        Args:
            is_filled: whether the numbers are wanted.
        """
        num_samples, num_rows = len(self._x), self._rows.count
        if self._is_trivial:
            for n in range(num_samples):
                place = Place(slice(n, n + 1), slice(0, num_rows), True)
                yield place, self._x[n].reshape(*self._by_group, num_rows * self.width)
            return
        inner, view = self._inner(self._memory), self._view()
        for n in range(0, num_samples, self._num_samples):
            samples = slice(n, min(n + self._num_samples, num_samples))
            count = samples.stop - n
            if is_filled:
                np.copyto(inner[:count], self._x[samples])
            for start in range(0, num_rows, self._num_rows):
                rows = slice(start, min(start + self._num_rows, num_rows))
                shape = (*self._taps, count, rows.stop - start, self.width)
                block = self._room[: math.prod(shape)].reshape(shape)
                if is_filled:
                    np.copyto(block, view[:, :, :, :count, rows])
                place = Place(samples, rows, rows.stop == num_rows)
                numel = math.prod(shape[3:])
                yield place, block.reshape(*self._by_group, numel)

    def put_back(self, place: Place, grads: Array, dx: Array) -> None:
        """Add the gradients of a block's patches to those of the elements.

        Args:
            place: of the block.
            grads: [groups, taps, results].
            dx: [N, C, H, W] receives the sums of samples whose last rows these are.
        """
        if self._sums is None:
            self._sums = self._zeros()
        rows, cols = self._rows, self._cols
        count, start = place.samples.stop - place.samples.start, place.rows.start
        num_rows = place.rows.stop - start
        block = grads.reshape(*self._taps, count, num_rows, self.width)
        block = block[..., : cols.count]
        sums = self._padded(self._sums)[:count].swapaxes(0, 1)
        span = (num_rows - 1) * rows.stride + 1
        for i in range(rows.kernel):
            top = start * rows.stride + i * rows.dilation
            for j in range(cols.kernel):
                part = sums[:, :, top : top + span : rows.stride, cols.taps(j)]
                np.add(part, block[:, i, j], part)
        if place.is_last:
            np.copyto(dx[place.samples], self._inner(self._sums)[:count])
            self._sums.fill(0)


class Beside:
    """An array [N, O, OH, OW] whose elements are results of windows, block by block.

    Args:
        array: C-contiguous.
        groups: its channels are cut into so many parts.
        width: of a row of results in a block; see `Patches.width`.
    """

    def __init__(self, array: Array, groups: int, width: int) -> None:
        self._array, self._groups, self._width = array, groups, width
        self._room = np.zeros(0, array.dtype)

    def _is_there(self, part: Array) -> bool:
        """Return whether a block is a run of the array for each channel."""
        return len(part) == 1 and self._width == part.shape[3]

    def _side(self, part: Array) -> tuple[Array, Array]:
        """Return memory for a block: as [O, samples, rows, width], and as a matrix.

        What lies behind the columns of `part` is zero unless somebody writes there.
        """
        samples, channels, rows, _ = part.shape
        numel = part.size // max(1, part.shape[3]) * self._width
        if self._room.size < numel:
            self._room = np.zeros(numel, part.dtype)
        room = self._room[:numel]
        matrix = room.reshape(self._groups, channels // self._groups, -1)
        return room.reshape(channels, samples, rows, self._width), matrix

    def room(self, place: Place) -> Array:
        """Return memory for the results of a block, [groups, O / groups, results]."""
        part = self._array[place.samples, :, place.rows]
        if self._is_there(part):
            per_group = part.shape[1] // self._groups
            there: Array = part[0].reshape(self._groups, per_group, -1)
            return there
        return self._side(part)[1]

    def keep(self, place: Place) -> None:
        """Take what was written to `room`."""
        part = self._array[place.samples, :, place.rows]
        if not self._is_there(part):
            side, _ = self._side(part)
            np.copyto(part, side[..., : part.shape[3]].swapaxes(0, 1))

    def matrix(self, place: Place) -> Array:
        """Return a block, [groups, O / groups, results]; not to be written."""
        part = self._array[place.samples, :, place.rows]
        if self._is_there(part):
            return self.room(place)
        side, matrix = self._side(part)
        np.copyto(side[..., : part.shape[3]], part.swapaxes(0, 1))
        return matrix
