"""Arguments of windows: kernel, stride, dilation and padding, checked once per dim."""

import operator as op
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from parallel_params.tensor.window import PadMode, Window

PerDim: TypeAlias = int | Sequence[int]
"""One number for all dims that a window slides along, or one for each."""

_MODES = ("same", "valid", "pad")


def per_dim(
    setting: str, value: object, num_dims: int, *, least: int
) -> tuple[int, ...]:
    """Return one number per dim.

    Raises:
        TypeError: a number is no integer.
        ValueError: a number is below `least`, or there are not 1 or `num_dims` of them.
    """
    given = tuple(value) if isinstance(value, Sequence) else (value,)
    if isinstance(value, str) or any(
        isinstance(n, bool) or not hasattr(n, "__index__") for n in given
    ):
        raise TypeError(f"{setting} is made of integers, not {value!r}")
    numbers = tuple(op.index(n) for n in given)
    if len(numbers) not in (1, num_dims):
        raise ValueError(
            f"{setting} is one number or {num_dims}, not {len(numbers)}: {value!r}"
        )
    if min(numbers) < least:
        raise ValueError(f"{setting} is at least {least}, not {value!r}")
    return numbers * num_dims if len(numbers) == 1 else numbers


def pad_pairs(
    padding: object, num_dims: int, operator: str
) -> tuple[tuple[int, int], ...]:
    """Return what is padded in front of and behind every dim.

    Args:
        padding: one number; one per dim; or two per dim, in front and behind, dim by
            dim: (top, bottom, left, right).
        num_dims: of the window.
        operator: for the message.

    Raises:
        TypeError, ValueError: it is nothing of that, or negative.
    """
    setting = f"{operator}: padding"
    if isinstance(padding, Sequence) and len(padding) == 2 * num_dims > 1:
        numbers = per_dim(setting, padding, 2 * num_dims, least=0)
        return tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return tuple((n, n) for n in per_dim(setting, padding, num_dims, least=0))


def make_windows(
    operator: str,
    lengths: Sequence[int],
    kernel: Sequence[int],
    *,
    stride: PerDim,
    dilation: PerDim = 1,
    pad_mode: PadMode = "pad",
    padding: object = 0,
) -> tuple[Window, ...]:
    """Return the windows along the last dims of an input.

    Args:
        operator: for messages.
        lengths: of those dims.
        kernel: of each.
        stride: of all, or of each.
        dilation: likewise.
        pad_mode: "same" pads so that there are length / stride windows, rounded up, the
            odd element behind; "valid" pads nothing; "pad" pads `padding`.
        padding: see `pad_pairs`.

    Raises:
        TypeError, ValueError: a setting is unknown, too small, or does not go with the
            mode; or the kernel reaches beyond the padded input.
    """
    num_dims = len(lengths)
    strides = per_dim(f"{operator}: stride", stride, num_dims, least=1)
    dilations = per_dim(f"{operator}: dilation", dilation, num_dims, least=1)
    pairs = pad_pairs(padding, num_dims, operator)
    check_pad_mode(operator, pad_mode, pairs)
    windows = []
    for i, length in enumerate(lengths):
        before, after = pairs[i]
        if pad_mode == "same":
            reach = dilations[i] * (kernel[i] - 1) + 1
            missing = (-(-length // strides[i]) - 1) * strides[i] + reach - length
            before = max(0, missing) // 2
            after = max(0, missing) - before
        window = Window(
            length=length,
            kernel=kernel[i],
            stride=strides[i],
            dilation=dilations[i],
            before=before,
            after=after,
        )
        if window.padded < window.extent or not length:
            _refuse(operator, window, i + 2)
        windows.append(window)
    return tuple(windows)


def check_pad_mode(
    operator: str, pad_mode: object, pairs: Sequence[tuple[int, int]]
) -> None:
    """Raise ValueError for an unknown mode, or padding that it does not take."""
    if pad_mode not in _MODES:
        raise ValueError(
            f"{operator}: pad_mode is 'same', 'valid' or 'pad', not {pad_mode!r}"
        )
    if pad_mode != "pad" and any(n for pair in pairs for n in pair):
        raise ValueError(
            f"{operator}: padding {[n for pair in pairs for n in pair]} is for "
            f"pad_mode='pad'; with {pad_mode!r} it must be 0"
        )


def _refuse(operator: str, window: Window, dim: int) -> NoReturn:
    raise ValueError(
        f"{operator}: the kernel spans {window.extent} elements of dim {dim} (kernel "
        f"{window.kernel}, dilation {window.dilation}), but the input has "
        f"{window.length} there, {window.padded} with padding"
    )
