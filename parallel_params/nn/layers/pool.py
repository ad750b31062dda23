"""Pools: the largest element, or the mean, of every window.

The arithmetic is in `tensor/ops/pool.py`. Names and defaults are MindSpore's, a stride
of 1 among them; PyTorch's `MaxPool2d(2)` is `MaxPool2d(2, 2)`.
"""

from collections.abc import Callable
from typing import ClassVar

from parallel_params.nn.cell import Cell
from parallel_params.tensor.ops import adaptive_pool, pool
from parallel_params.tensor.ops.windows import (
    PerDim,
    check_pad_mode,
    pad_pairs,
    per_dim,
)
from parallel_params.tensor.tensor import Tensor
from parallel_params.tensor.window import PadMode


class _Pool(Cell):
    num_dims: ClassVar[int]

    def __init__(
        self,
        kernel_size: PerDim = 1,
        stride: PerDim = 1,
        pad_mode: PadMode = "valid",
        padding: PerDim = 0,
    ) -> None:
        super().__init__()
        kind, num_dims = type(self).__name__, self.num_dims
        self.kernel_size = per_dim(
            f"{kind}: kernel_size", kernel_size, num_dims, least=1
        )
        self.stride = per_dim(f"{kind}: stride", stride, num_dims, least=1)
        self.pad_mode: PadMode = pad_mode
        self.padding: PerDim = padding if isinstance(padding, int) else tuple(padding)
        check_pad_mode(kind, pad_mode, pad_pairs(padding, num_dims, kind))

    def extend_repr(self) -> str:
        """Return the settings."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, "
            f"pad_mode={self.pad_mode}, padding={self.padding}"
        )


class _MaxPool(_Pool):
    operator: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        kernel_size: PerDim = 1,
        stride: PerDim = 1,
        pad_mode: PadMode = "valid",
        padding: PerDim = 0,
        dilation: PerDim = 1,
    ) -> None:
        super().__init__(kernel_size, stride, pad_mode, padding)
        self.dilation = per_dim(
            f"{type(self).__name__}: dilation", dilation, self.num_dims, least=1
        )

    def construct(self, x: Tensor) -> Tensor:
        """Return the largest element of every window of x."""
        return type(self).operator(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            pad_mode=self.pad_mode,
        )


class MaxPool2d(_MaxPool):
    """The largest element of every window of [N, C, H, W].

    Args:
        kernel_size: one number, or one for H and one for W.
        stride: from window to window.
        pad_mode: "same": the output has H / stride rows, rounded up; "valid": no
            padding; "pad": `padding`.
        padding: for "pad", at most half of the kernel: one number, (H, W), or (top,
            bottom, left, right).
        dilation: from element to element of a window.

    Raises:
        TypeError: a setting is no integer.
        ValueError: a setting is too small or unknown.
    """

    num_dims = 2
    operator = staticmethod(pool.max_pool2d)


class MaxPool1d(_MaxPool):
    """The largest element of every window of [N, C, L]; otherwise as `MaxPool2d`."""

    num_dims = 1
    operator = staticmethod(pool.max_pool1d)


class AvgPool2d(_Pool):
    """The mean of every window of [N, C, H, W].

    Args:
        kernel_size: one number, or one for H and one for W.
        stride: from window to window.
        pad_mode: as for `MaxPool2d`.
        padding: with zeros; as for `MaxPool2d`.
        count_include_pad: whether padding counts among the elements of a window.
        divisor_override: what sums are divided by instead of a count.

    Raises:
        TypeError: a setting is no integer.
        ValueError: a setting is too small or unknown.
    """

    num_dims = 2

    def __init__(
        self,
        kernel_size: PerDim = 1,
        stride: PerDim = 1,
        pad_mode: PadMode = "valid",
        padding: PerDim = 0,
        *,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, pad_mode, padding)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override
        if divisor_override is not None:
            per_dim("AvgPool2d: divisor_override", divisor_override, 1, least=1)

    def construct(self, x: Tensor) -> Tensor:
        """Return the mean of every window of x."""
        return pool.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override or 0,
            pad_mode=self.pad_mode,
        )


class AvgPool1d(_Pool):
    """The mean of every window of [N, C, L]; arguments as for `AvgPool2d`."""

    num_dims = 1

    def __init__(
        self,
        kernel_size: PerDim = 1,
        stride: PerDim = 1,
        pad_mode: PadMode = "valid",
        padding: PerDim = 0,
        *,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, pad_mode, padding)
        self.count_include_pad = count_include_pad

    def construct(self, x: Tensor) -> Tensor:
        """Return the mean of every window of x."""
        return pool.avg_pool1d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            count_include_pad=self.count_include_pad,
            pad_mode=self.pad_mode,
        )


class AdaptiveAvgPool2d(Cell):
    """Means over windows that cut H and W of [N, C, H, W] into so many parts.

    Args:
        output_size: one number, or one for H and one for W.

    Raises:
        TypeError: a number is no integer.
        ValueError: a number is below 1.
    """

    def __init__(self, output_size: PerDim) -> None:
        super().__init__()
        self.output_size = per_dim("AdaptiveAvgPool2d", output_size, 2, least=1)

    def construct(self, x: Tensor) -> Tensor:
        """Return [N, C, *output_size]."""
        return adaptive_pool.adaptive_avg_pool2d(x, self.output_size)

    def extend_repr(self) -> str:
        """Return the settings."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(Cell):
    """Means over windows that cut L of [N, C, L] into `output_size` parts."""

    def __init__(self, output_size: int) -> None:
        super().__init__()
        (self.output_size,) = per_dim("AdaptiveAvgPool1d", output_size, 1, least=1)

    def construct(self, x: Tensor) -> Tensor:
        """Return [N, C, output_size]."""
        return adaptive_pool.adaptive_avg_pool1d(x, self.output_size)

    def extend_repr(self) -> str:
        """Return the setting."""
        return f"output_size={self.output_size}"
