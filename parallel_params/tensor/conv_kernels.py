"""Convolutions as matrix products over patches, block by block of one sample.

The patches of a block of output rows are copied side by side, 256 KiB of them, and
multiplied while they lie in the L2 cache; patches are never kept. On small images that
is faster than one product over the batch, whose patches go through memory.

All arrays are C-contiguous: x [N, C, H, W], w [O, C / groups, KH, KW], and the result
[N, O, OH, OW]; `rows` and `cols` say how the window slides along H and W. Nothing here
knows tensors or the tape.

Source: the layout of patches is im2col of Chellapilla et al., High performance
convolutional neural networks for document processing (2006).
"""

from collections.abc import Iterator

import numpy as np

from parallel_params.tensor.kernels import BLOCK
from parallel_params.tensor.tape import Array
from parallel_params.tensor.window import Window


def conv2d(
    x: Array,
    w: Array,
    bias: Array | None,
    out: Array,
    *,
    rows: Window,
    cols: Window,
    groups: int,
) -> None:
    """Write the cross-correlation of x with w, plus `bias` [O], into `out`."""
    patches = _Patches(x, rows, cols, groups)
    kernel = w.reshape(groups, w.shape[0] // groups, -1)
    flat = out.reshape(len(out), groups, kernel.shape[1], rows.count * cols.count)
    shift = None if bias is None else bias.reshape(groups, -1, 1)
    for n in range(len(x)):
        for where, block in patches.blocks(n):
            into = flat[n][:, :, where]
            np.matmul(kernel, block, out=into)
            if shift is not None:
                np.add(into, shift, into)


def weight_grad(
    g: Array, x: Array, dw: Array, *, rows: Window, cols: Window, groups: int
) -> None:
    """Write the gradient of w into `dw`, for a gradient `g` of the result."""
    _sweep(g, x, None, dw, None, rows, cols, groups)


def input_grad(
    g: Array, w: Array, dx: Array, *, rows: Window, cols: Window, groups: int
) -> None:
    """Write the gradient of x into `dx`, for a gradient `g` of the result."""
    if _can_turn(rows, cols):
        _turned_sweep(g, None, w, None, dx, rows, cols, groups)
    else:
        _sweep(g, dx, w, None, dx, rows, cols, groups)


def both_grads(
    g: Array,
    x: Array,
    w: Array,
    dw: Array,
    dx: Array,
    *,
    rows: Window,
    cols: Window,
    groups: int,
) -> None:
    """Write the gradients of w and x, out of one copy of patches."""
    sweep = _turned_sweep if _can_turn(rows, cols) else _sweep
    sweep(g, x, w, dw, dx, rows, cols, groups)


def _can_turn(rows: Window, cols: Window) -> bool:
    turned = rows.turned(), cols.turned()
    has_room = all(each.before >= 0 and each.after >= 0 for each in turned)
    return rows.stride == cols.stride == 1 and has_room


def _turned_sweep(
    g: Array,
    x: Array | None,
    w: Array,
    dw: Array | None,
    dx: Array,
    rows: Window,
    cols: Window,
    groups: int,
) -> None:
    """Take the patches of `g`: both gradients are products with them.

    Adding the products of the other way round into place costs more than either.
    """
    patches = _Patches(g, rows.turned(), cols.turned(), groups)
    per_in, per_out = w.shape[1], w.shape[0] // groups
    split = w.reshape(groups, per_out, per_in, *w.shape[2:])
    kernel = np.ascontiguousarray(split[..., ::-1, ::-1].swapaxes(1, 2))
    kernel = kernel.reshape(groups, per_in, -1)
    into = dx.reshape(len(dx), groups, per_in, rows.length * cols.length)
    source = None if x is None else x.reshape(into.shape)
    total, part = np.zeros_like(kernel), np.empty_like(kernel)
    for n in range(len(g)):
        for where, block in patches.blocks(n):
            np.matmul(kernel, block, out=into[n][:, :, where])
            if source is not None:
                np.matmul(source[n][:, :, where], block.swapaxes(1, 2), out=part)
                np.add(total, part, total)
    if dw is not None:
        turned = total.reshape(groups, per_in, per_out, *w.shape[2:])[..., ::-1, ::-1]
        np.copyto(dw.reshape(split.shape), turned.swapaxes(1, 2))


def _sweep(
    g: Array,
    x: Array,
    w: Array | None,
    dw: Array | None,
    dx: Array | None,
    rows: Window,
    cols: Window,
    groups: int,
) -> None:
    """Take the patches of `x`; the gradient of each is added where it came from."""
    patches = _Patches(x, rows, cols, groups)
    per_out = g.shape[1] // groups
    flat = g.reshape(len(g), groups, per_out, rows.count * cols.count)
    kernel = None if w is None else w.reshape(groups, per_out, -1).swapaxes(1, 2)
    total = np.zeros((groups, per_out, 0 if dw is None else dw[0].size), g.dtype)
    part = np.empty_like(total)
    for n in range(len(g)):
        for where, block in patches.blocks(n, is_filled=dw is not None):
            grad = flat[n][:, :, where]
            if dw is not None:
                np.matmul(grad, block.swapaxes(1, 2), out=part)
                np.add(total, part, total)
            if kernel is not None:
                # The patches have been used: their room is free.
                np.matmul(kernel, grad, out=block)
                patches.put_back(where, block)
        if dx is not None:
            patches.take_sums(dx[n])
    if dw is not None:
        np.copyto(dw, total.reshape(dw.shape))


class _Patches:
    """The patches of one sample after the other, a block of output rows at a time."""

    def __init__(self, x: Array, rows: Window, cols: Window, groups: int) -> None:
        self._x, self._rows, self._cols, self._groups = x, rows, cols, groups
        channels = x.shape[1]
        self._shape = (channels, rows.kernel, cols.kernel)
        self._is_trivial = rows.is_trivial and cols.is_trivial
        self._padded = np.zeros((channels, rows.padded, cols.padded), x.dtype)
        self._inner = self._padded[
            :,
            rows.before : rows.before + rows.length,
            cols.before : cols.before + cols.length,
        ]
        self._sums: Array | None = None
        width = max(1, channels * rows.kernel * cols.kernel * cols.count)
        self._step = max(1, min(rows.count, BLOCK // width))
        self._room = np.empty(0, x.dtype)
        if not self._is_trivial:
            self._room = np.empty(width * self._step, x.dtype)
        channel, row, col = self._padded.strides
        self._view = np.lib.stride_tricks.as_strided(
            self._padded,
            (*self._shape, rows.count, cols.count),
            (
                channel,
                row * rows.dilation,
                col * cols.dilation,
                row * rows.stride,
                col * cols.stride,
            ),
            writeable=False,
        )

    def blocks(
        self, n: int, *, is_filled: bool = True
    ) -> Iterator[tuple[slice, Array]]:
        """Yield where a block's results lie in OH * OW, and [groups, taps, results].

        Args:
            n: the sample.
            is_filled: whether the numbers are wanted.
        """
        width = self._cols.count
        if self._is_trivial:
            yield slice(None), self._x[n].reshape(self._groups, -1, self._x[n][0].size)
            return
        if is_filled:
            np.copyto(self._inner, self._x[n])
        for start in range(0, self._rows.count, self._step):
            stop = min(start + self._step, self._rows.count)
            shape = (*self._shape, stop - start, width)
            room = self._room[: self._room.size // self._step * (stop - start)]
            block = room.reshape(shape)
            if is_filled:
                np.copyto(block, self._view[:, :, :, start:stop])
            where = slice(start * width, stop * width)
            yield where, block.reshape(self._groups, -1, (stop - start) * width)

    def put_back(self, where: slice, grads: Array) -> None:
        """Add the gradients [groups, taps, results] of a block to those of elements."""
        if self._sums is None:
            self._sums = np.zeros_like(self._padded)
        rows, cols = self._rows, self._cols
        width = cols.count
        start = 0 if where.start is None else where.start // width
        block = grads.reshape(*self._shape, -1, width)
        span = (block.shape[3] - 1) * rows.stride + 1
        for i in range(rows.kernel):
            top = start * rows.stride + i * rows.dilation
            for j in range(cols.kernel):
                part = self._sums[:, top : top + span : rows.stride, cols.taps(j)]
                np.add(part, block[:, i, j], part)

    def take_sums(self, out: Array) -> None:
        """Write the gradients [C, H, W] of the sample's elements, and forget them."""
        if self._sums is None:
            out.fill(0)
            return
        rows, cols = self._rows, self._cols
        top, left = rows.before, cols.before
        np.copyto(
            out, self._sums[:, top : top + rows.length, left : left + cols.length]
        )
        self._sums.fill(0)
