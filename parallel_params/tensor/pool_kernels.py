"""Maxima and sums over windows, one dim after the other.

A window over two dims is a window over columns of windows over rows, so k + k elements
are looked at and not k * k. Arrays are seen as [outer, length, inner], C-contiguous,
and taken in blocks of `outer` that stay in the L2 cache. Nothing here knows tensors or
the tape.
"""

from collections.abc import Iterator

import numpy as np

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.kernels import BLOCK
from parallel_params.tensor.tape import Array
from parallel_params.tensor.window import Window


@kernel(fast="parallel_params.tensor.fast.forms")
def max_along(x: Array, window: Window, out: Array, choice: Array | None) -> None:
    """Write the largest element of every window into `out`.

    Args:
        x: [outer, window.length, inner].
        window: along the middle dim; every one holds an element that is no padding.
        out: [outer, window.count, inner].
        choice: likewise, of `choice_type(window)`: receives which element of the window
            it was, the first of equal ones; None if nobody asks.
    """
    for part in _parts(x):
        _max_block(x[part], window, out[part], None if choice is None else choice[part])


def choice_type(window: Window) -> "np.dtype[np.generic]":
    """Return the smallest type that can count the elements of a window."""
    return np.min_scalar_type(window.kernel - 1)


def _max_block(x: Array, window: Window, out: Array, choice: Array | None) -> None:
    begin = 0
    if window.before or window.after or window.kernel == 1:
        out.fill(-np.inf)
        if choice is not None:
            choice.fill(0)
    else:
        begin = 2
        # Single elements some way apart are copied: two passes read them otherwise.
        second = np.ascontiguousarray(x[:, window.taps(1)])
        np.copyto(out, x[:, window.taps(0)])
        if choice is not None:
            np.copyto(choice, np.greater(second, out))
        np.maximum(out, second, out=out)
    for j in range(begin, window.kernel):
        windows, places = window.inside(j)
        found, best = x[:, places], out[:, windows]
        if choice is not None and j:
            # j grows, so the last that was larger is the largest number.
            wins = np.multiply(np.greater(found, best), j, dtype=choice.dtype)
            chosen = choice[:, windows]
            np.maximum(chosen, wins, out=chosen)
        np.maximum(best, found, out=best)


@kernel(fast="parallel_params.tensor.fast.forms")
def max_along_grad(g: Array, choice: Array, window: Window, dx: Array) -> None:
    """Write into `dx` [outer, window.length, inner] the gradient of what was chosen."""
    for part in _parts(dx):
        _max_grad_block(g[part], choice[part], window, dx[part])


def _max_grad_block(g: Array, choice: Array, window: Window, dx: Array) -> None:
    if not window.tiles:
        dx.fill(0)
    rest = g
    for j in range(window.kernel - 1, -1, -1):
        part = rest
        if j:
            part = np.multiply(g, choice == j)
            rest = np.subtract(rest, part)  # exact: one of them is 0
        windows, places = window.inside(j)
        _put(dx[:, places], part[:, windows], window)


def sum_along(x: Array, window: Window, out: Array) -> None:
    """Write the sum of every window into `out` [outer, window.count, inner]."""
    for part in _parts(x):
        block, into = x[part], out[part]
        into.fill(0)
        for j in range(window.kernel):
            windows, places = window.inside(j)
            target = into[:, windows]
            np.add(target, block[:, places], target)


def sum_along_grad(g: Array, window: Window, dx: Array) -> None:
    """Write into `dx` the sums of the gradients of the windows an element is in."""
    for part in _parts(dx):
        block, into = g[part], dx[part]
        if not window.tiles:
            into.fill(0)
        for j in range(window.kernel):
            windows, places = window.inside(j)
            _put(into[:, places], block[:, windows], window)


def _put(target: Array, values: Array, window: Window) -> None:
    if window.overlaps:
        np.add(target, values, target)
    else:
        np.copyto(target, values)


def _parts(x: Array) -> Iterator[slice]:
    outer = len(x)
    step = max(1, BLOCK // max(1, x[0].size)) if outer else 1
    for start in range(0, outer, step):
        yield slice(start, start + step)
