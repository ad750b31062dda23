"""Maxima and means over windows of one and of two dims.

Kernels are in `tensor/pool_kernels.py`; a sweep that will be differentiated itself gets
the same numbers out of single operators.
"""

import numpy as np

from parallel_params.tensor import pool_kernels as kernels
from parallel_params.tensor import tape
from parallel_params.tensor.ops.apply import Operand, as_operand, result
from parallel_params.tensor.ops.arrange import pad
from parallel_params.tensor.ops.extreme import amax
from parallel_params.tensor.ops.indexing import taken
from parallel_params.tensor.ops.join import stack
from parallel_params.tensor.ops.reduction import sum as sum_of
from parallel_params.tensor.ops.windows import PerDim, make_windows, per_dim
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor
from parallel_params.tensor.window import PadMode, Window

_DIMS = {1: "[N, C, L]", 2: "[N, C, H, W]"}


def max_pool2d(
    x: Operand,
    kernel_size: PerDim,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    dilation: PerDim = 1,
    *,
    pad_mode: PadMode = "pad",
) -> Tensor:
    """Return the largest element of every window.

    Of equal ones the first, in C order, has the gradient.

    Args:
        x: [N, C, H, W].
        kernel_size: of the window; one number, or one for H and one for W.
        stride: from window to window; by default the kernel size.
        padding: with what is smaller than everything: one number, (H, W), or (top,
            bottom, left, right); at most half of the kernel.
        dilation: from element to element of a window.
        pad_mode: as for `conv2d`.

    Returns:
        [N, C, OH, OW].

    Raises:
        TypeError: the elements are not floating point, or a setting is no integer.
        ValueError: x has other dims, a setting is too small, or the kernel reaches
            beyond the padded input.
    """
    windows = _windows(
        "max_pool2d", 2, x, kernel_size, stride, pad_mode, padding, dilation
    )
    return _max_pool(as_operand(x, "max_pool2d"), windows)


def max_pool1d(
    x: Operand,
    kernel_size: PerDim,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    dilation: PerDim = 1,
    *,
    pad_mode: PadMode = "pad",
) -> Tensor:
    """Return the largest element of every window of x [N, C, L]; see `max_pool2d`."""
    windows = _windows(
        "max_pool1d", 1, x, kernel_size, stride, pad_mode, padding, dilation
    )
    return _max_pool(as_operand(x, "max_pool1d"), windows)


def avg_pool2d(
    input_x: Operand,
    kernel_size: PerDim = 1,
    stride: PerDim | None = 1,
    padding: PerDim = 0,
    *,
    count_include_pad: bool = True,
    divisor_override: int = 0,
    pad_mode: PadMode = "pad",
) -> Tensor:
    """Return the mean of every window.

    Args:
        input_x: [N, C, H, W].
        kernel_size: of the window; one number, or one for H and one for W.
        stride: from window to window; None for the kernel size.
        padding: with zeros, as for `max_pool2d`.
        count_include_pad: whether padding counts among the elements of a window.
        divisor_override: what sums are divided by instead of a count; 0 for none.
        pad_mode: as for `conv2d`.

    Returns:
        [N, C, OH, OW].

    Raises:
        TypeError, ValueError: as `max_pool2d`.
    """
    windows = _windows("avg_pool2d", 2, input_x, kernel_size, stride, pad_mode, padding)
    x = as_operand(input_x, "avg_pool2d")
    return _avg_pool(x, windows, count_include_pad, divisor_override)


def avg_pool1d(
    input_x: Operand,
    kernel_size: PerDim = 1,
    stride: PerDim | None = 1,
    padding: PerDim = 0,
    *,
    count_include_pad: bool = True,
    pad_mode: PadMode = "pad",
) -> Tensor:
    """Return the mean of every window of input_x [N, C, L]; see `avg_pool2d`."""
    windows = _windows("avg_pool1d", 1, input_x, kernel_size, stride, pad_mode, padding)
    return _avg_pool(as_operand(input_x, "avg_pool1d"), windows, count_include_pad, 0)


def checked_input(operator: str, num_dims: int, x: Operand) -> Tensor:
    """Return the input of a pool; raise ValueError or TypeError if it is none."""
    tensor = as_operand(x, operator)
    if tensor.ndim != num_dims + 2 or 0 in tensor.shape[2:]:
        raise ValueError(
            f"{operator}: the input is {_DIMS[num_dims]} with elements along its last "
            f"dims, not of shape {tensor.shape}"
        )
    if not tensor.dtype.is_float:
        raise TypeError(f"{operator} takes floating-point elements, not {tensor.dtype}")
    return tensor


def _windows(
    operator: str,
    num_dims: int,
    x: Operand,
    kernel_size: PerDim,
    stride: PerDim | None,
    pad_mode: PadMode,
    padding: PerDim,
    dilation: PerDim = 1,
) -> tuple[Window, ...]:
    tensor = checked_input(operator, num_dims, x)
    kernel = per_dim(f"{operator}: kernel_size", kernel_size, num_dims, least=1)
    windows = make_windows(
        operator,
        tensor.shape[2:],
        kernel,
        stride=kernel if stride is None else stride,
        dilation=dilation,
        pad_mode=pad_mode,
        padding=padding,
    )
    for window in windows:
        if 2 * max(window.before, window.after) > window.extent:
            raise ValueError(
                f"{operator}: padding {padding} is more than half of the kernel, which "
                f"spans {window.extent}: a window could hold nothing else"
            )
    return windows


def _max_pool(x: Tensor, windows: tuple[Window, ...]) -> Tensor:
    if tape.is_nested():
        return _plain_max(x, windows)
    is_wanted = x._node is not None
    array = np.ascontiguousarray(x._array)
    passes: list[tuple[Window, Array | None, tuple[int, ...]]] = []
    # The last dim first: of equal elements the first row wins in the end.
    for dim, window in _last_first(windows):
        shape = _outer_inner(array.shape, dim)
        out = np.empty((shape[0], window.count, shape[2]), array.dtype)
        choice = None
        if is_wanted:
            choice = np.empty(out.shape, kernels.choice_type(window))
        kernels.max_along(array.reshape(shape), window, out, choice)
        passes.append((window, choice, array.shape))
        array = out.reshape(*array.shape[:dim], window.count, *array.shape[dim + 1 :])

    def vjp(g: Array) -> tuple[Array]:
        for (dim, _), (window, choice, shape) in zip(
            reversed(_last_first(windows)), reversed(passes), strict=True
        ):
            assert choice is not None
            dx = np.empty(_outer_inner(shape, dim), g.dtype)
            kernels.max_along_grad(g.reshape(choice.shape), choice, window, dx)
            g = dx.reshape(shape)
        return (g,)

    return result(array, (x,), vjp)


def _avg_pool(
    x: Tensor, windows: tuple[Window, ...], counts_padding: bool, divisor: int
) -> Tensor:
    share = _shares(windows, counts_padding, divisor, x._array.dtype)
    if tape.is_nested():
        return sum_of(_taps(x, windows, 0.0), -1) * Tensor.wrap(share)
    array = np.ascontiguousarray(x._array)
    shapes = []
    for dim, window in _last_first(windows):
        shape = _outer_inner(array.shape, dim)
        out = np.empty((shape[0], window.count, shape[2]), array.dtype)
        kernels.sum_along(array.reshape(shape), window, out)
        shapes.append(array.shape)
        array = out.reshape(*array.shape[:dim], window.count, *array.shape[dim + 1 :])
    np.multiply(array, share, array)

    def vjp(g: Array) -> tuple[Array]:
        g = np.multiply(g, share)
        for (dim, window), shape in zip(
            reversed(_last_first(windows)), reversed(shapes), strict=True
        ):
            outer, length, inner = _outer_inner(shape, dim)
            dx = np.empty((outer, length, inner), g.dtype)
            kernels.sum_along_grad(g.reshape(outer, window.count, inner), window, dx)
            g = dx.reshape(shape)
        return (g,)

    return result(array, (x,), vjp)


def _shares(
    windows: tuple[Window, ...],
    counts_padding: bool,
    divisor: int,
    dtype: "np.dtype[np.generic]",
) -> Array:
    """Return what the sum of every window is multiplied by."""
    if divisor:
        return np.asarray(1 / divisor, dtype)
    if counts_padding:
        return np.asarray(1 / np.prod([window.kernel for window in windows]), dtype)
    counts = np.ones(())
    for window in windows:
        found = np.zeros(window.count)
        for j in range(window.kernel):
            found[window.inside(j)[0]] += 1
        counts = np.multiply.outer(counts, found)
    return np.asarray(1 / counts, dtype)


def _last_first(windows: tuple[Window, ...]) -> list[tuple[int, Window]]:
    """Return (dim, window) from the last dim to the first."""
    return [(2 + i, windows[i]) for i in range(len(windows) - 1, -1, -1)]


def _outer_inner(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    outer, inner = 1, 1
    for n in shape[:dim]:
        outer *= n
    for n in shape[dim + 1 :]:
        inner *= n
    return outer, shape[dim], inner


def _plain_max(x: Tensor, windows: tuple[Window, ...]) -> Tensor:
    return amax(_taps(x, windows, -np.inf), -1)


def _taps(x: Tensor, windows: tuple[Window, ...], value: float) -> Tensor:
    """Return the elements of every window along a new last dim."""
    last_first = [n for w in reversed(windows) for n in (w.before, w.after)]
    padded = pad(x, last_first, value=value)
    views = [
        taken(
            padded,
            (..., *(w.taps(j) for w, j in zip(windows, tap, strict=True))),
        )
        for tap in np.ndindex(*(window.kernel for window in windows))
    ]
    return stack(views, -1)
