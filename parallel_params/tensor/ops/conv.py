"""Convolutions over one and two dims.

What frameworks call convolution is cross-correlation: the kernel is not turned round.
Kernels are in `tensor/conv_kernels.py`; a sweep that will be differentiated itself gets
the same sums out of single operators.
"""

import numpy as np

from parallel_params.tensor import conv_kernels as kernels
from parallel_params.tensor import tape
from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.arrange import pad
from parallel_params.tensor.ops.conv_checks import check_conv
from parallel_params.tensor.ops.indexing import taken
from parallel_params.tensor.ops.join import stack
from parallel_params.tensor.ops.matmul import matmul
from parallel_params.tensor.ops.windows import PerDim, make_windows
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor
from parallel_params.tensor.window import PadMode, Window


def conv2d(
    input: Operand,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PerDim = 1,
    pad_mode: PadMode = "valid",
    padding: PerDim = 0,
    dilation: PerDim = 1,
    groups: int = 1,
) -> Tensor:
    """Return the sums of products of `weight` with every window of `input`.

    Args:
        input: [N, C, H, W].
        weight: [O, C / groups, KH, KW].
        bias: [O], added to every sum; or None.
        stride: from window to window; one number, or one for H and one for W.
        pad_mode: "valid": no padding; "same": OH = H / stride, rounded up, the odd row
            and column at the end; "pad": `padding` zeros.
        padding: one number, (H, W), or (top, bottom, left, right).
        dilation: from element to element of a window.
        groups: the channels are cut into so many parts, which do not see each other.

    Returns:
        [N, O, OH, OW].

    Raises:
        TypeError: the element types differ or are not floating point, or a setting is
            no integer.
        ValueError: the shapes do not fit, a setting is too small, the groups do not
            divide the channels, or the kernel reaches beyond the padded input.
    """
    return _conv(
        "conv2d", 2, input, weight, bias, stride, pad_mode, padding, dilation, groups
    )


def conv1d(
    input: Operand,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PerDim = 1,
    pad_mode: PadMode = "valid",
    padding: PerDim = 0,
    dilation: PerDim = 1,
    groups: int = 1,
) -> Tensor:
    """Return the sums of products of `weight` with every window of `input`.

    Args:
        input: [N, C, L].
        weight: [O, C / groups, K].
        bias: [O], or None.
        stride: from window to window.
        pad_mode: as for `conv2d`.
        padding: one number, or (in front, behind).
        dilation: from element to element of a window.
        groups: as for `conv2d`.

    Returns:
        [N, O, OL].

    Raises:
        TypeError, ValueError: as `conv2d`.
    """
    return _conv(
        "conv1d", 1, input, weight, bias, stride, pad_mode, padding, dilation, groups
    )


def _conv(
    operator: str,
    num_dims: int,
    input: Operand,
    weight: Tensor,
    bias: Tensor | None,
    stride: PerDim,
    pad_mode: PadMode,
    padding: PerDim,
    dilation: PerDim,
    groups: int,
) -> Tensor:
    x = as_operand(input, operator)
    check_conv(operator, num_dims, x, weight, bias, groups)
    windows = make_windows(
        operator,
        x._array.shape[2:],
        weight._array.shape[2:],
        stride=stride,
        dilation=dilation,
        pad_mode=pad_mode,
        padding=padding,
    )
    if x._array.itemsize == 2:
        # As for products: float32 is faster by far, and adds up exactly.
        single = np.dtype(np.float32)
        wide = [None if t is None else cast(t, single) for t in (x, weight, bias)]
        assert wide[0] is not None
        assert wide[1] is not None
        out = _convolved(wide[0], wide[1], wide[2], windows, groups)
        return cast(out, x._array.dtype)
    return _convolved(x, weight, bias, windows, groups)


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    windows: tuple[Window, ...],
    groups: int,
) -> Tensor:
    if tape.is_nested():
        return _plain(x, weight, bias, windows, groups)
    rows, cols = (
        windows if len(windows) == 2 else (Window(length=1, kernel=1), *windows)
    )
    array, w = _four_dims(x._array), _four_dims(weight._array)
    out = np.empty((len(array), len(w), rows.count, cols.count), array.dtype)
    shift = None if bias is None else bias._array
    kernels.conv2d(array, w, shift, out, rows=rows, cols=cols, groups=groups)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    nodes = [t._node for t in inputs]
    shapes = x._array.shape, weight._array.shape

    def vjp(g: Array) -> tuple[Array | None, ...]:
        grad = np.ascontiguousarray(_four_dims(g))
        dx, dw = _grads(grad, array, w, nodes[0], nodes[1], rows, cols, groups)
        if dx is not None:
            dx = dx.reshape(shapes[0])
        if dw is not None:
            dw = dw if dw.shape == shapes[1] else dw.reshape(shapes[1])
        if bias is None:
            return dx, dw
        node = nodes[2]
        if node is None:
            return dx, dw, None
        sums = np.add.reduce(grad, (2, 3))
        return dx, dw, np.add.reduce(sums, 0, out=node.sink())

    shape = (len(array), len(w), *(window.count for window in windows))
    return result(out.reshape(shape), inputs, vjp)


def _grads(
    g: Array,
    x: Array,
    w: Array,
    of_x: tape.Node | None,
    of_w: tape.Node | None,
    rows: Window,
    cols: Window,
    groups: int,
) -> tuple[Array | None, Array | None]:
    """Return the gradients that are wanted; that of the weight in its sink."""
    dx = None if of_x is None else np.empty_like(x)
    if of_w is None:
        if dx is not None:
            kernels.input_grad(g, w, dx, rows=rows, cols=cols, groups=groups)
        return dx, None
    sink = of_w.sink()
    dw = np.empty_like(w) if sink is None else sink
    into = _four_dims(dw)
    if dx is None:
        kernels.weight_grad(g, x, into, rows=rows, cols=cols, groups=groups)
    else:
        kernels.both_grads(g, x, w, into, dx, rows=rows, cols=cols, groups=groups)
    return dx, dw


def _four_dims(array: Array) -> Array:
    """See an array over one dim as one over two; C-contiguous."""
    if array.ndim == 3:
        array = array.reshape(*array.shape[:2], 1, array.shape[2])
    return np.ascontiguousarray(array)


def _plain(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    windows: tuple[Window, ...],
    groups: int,
) -> Tensor:
    """The same out of single operators, each of which has its own second derivative."""
    num_samples, channels = x.shape[:2]
    num_out = weight.shape[0]
    counts = tuple(window.count for window in windows)
    last_first = [n for w in reversed(windows) for n in (w.before, w.after)]
    padded = pad(x, last_first)
    taps = np.ndindex(*(window.kernel for window in windows))
    views = [
        taken(
            padded,
            (
                ...,
                *(w.taps(offset) for w, offset in zip(windows, tap, strict=True)),
            ),
        )
        for tap in taps
    ]
    # [N, C, taps, windows] -> [N, groups, C / groups * taps, windows]
    patches = stack(views, 2).reshape(
        num_samples, groups, channels // groups * len(views), int(np.prod(counts))
    )
    kernel = weight.reshape(groups, num_out // groups, channels // groups * len(views))
    out = matmul(kernel, patches).reshape(num_samples, num_out, *counts)
    if bias is None:
        return out
    return out + bias.reshape(num_out, *(1 for _ in windows))
