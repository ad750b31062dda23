"""Convolutions as matrix products over patches, a block of results at a time.

Patches are copied side by side (`patches.py`), multiplied and forgotten.

All arrays are C-contiguous: x [N, C, H, W], w [O, C / groups, KH, KW], and the result
[N, O, OH, OW]; `rows` and `cols` say how the window slides along H and W. Nothing here
knows tensors or the tape.
"""

import numpy as np

from parallel_params.tensor.patches import Beside, Patches
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
    patches = Patches(x, rows, cols, groups)
    kernel = w.reshape(groups, w.shape[0] // groups, -1)
    results = Beside(out, groups, patches.width)
    shift = None if bias is None else bias.reshape(groups, -1, 1)
    for place, block in patches.blocks():
        product = np.matmul(kernel, block, out=results.room(place))
        if shift is not None:
            np.add(product, shift, product)
        results.keep(place)


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
    patches = Patches(g, rows.turned(), cols.turned(), groups)
    per_in, per_out = w.shape[1], w.shape[0] // groups
    split = w.reshape(groups, per_out, per_in, *w.shape[2:])
    kernel = np.ascontiguousarray(split[..., ::-1, ::-1].swapaxes(1, 2))
    kernel = kernel.reshape(groups, per_in, -1)
    results = Beside(dx, groups, patches.width)
    source = None if x is None else Beside(x, groups, patches.width)
    total, part = np.zeros_like(kernel), np.empty_like(kernel)
    for place, block in patches.blocks():
        np.matmul(kernel, block, out=results.room(place))
        results.keep(place)
        if source is not None:
            np.matmul(source.matrix(place), block.swapaxes(1, 2), out=part)
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
    patches = Patches(x, rows, cols, groups)
    per_out = g.shape[1] // groups
    grads = Beside(g, groups, patches.width)
    kernel = None if w is None else w.reshape(groups, per_out, -1).swapaxes(1, 2)
    total = np.zeros((groups, per_out, 0 if dw is None else dw[0].size), g.dtype)
    part = np.empty_like(total)
    for place, block in patches.blocks(is_filled=dw is not None):
        grad = grads.matrix(place)
        if dw is not None:
            np.matmul(grad, block.swapaxes(1, 2), out=part)
            np.add(total, part, total)
        if kernel is not None and dx is not None:
            # The patches have been used: their room is free.
            np.matmul(kernel, grad, out=block)
            patches.put_back(place, block, dx)
    if dw is not None:
        np.copyto(dw, total.reshape(dw.shape))
