"""`Conv1d`, `Conv2d`: sums of products with a kernel that slides over the input.

The arithmetic is in `tensor/ops/conv.py`; a layer holds parameters and settings. Names
and defaults are MindSpore's: `pad_mode="same"`, so that a stride of 1 keeps the size,
and no bias. PyTorch's `Conv2d(i, o, k, padding=p)` is `Conv2d(i, o, k, pad_mode="pad",
padding=p, has_bias=True)`; both draw the same laws of initial values.
"""

import math
from collections.abc import Callable
from typing import ClassVar

from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.fan_laws import HeUniform
from parallel_params.tensor.initializer import Init, initializer
from parallel_params.tensor.laws import Uniform
from parallel_params.tensor.ops.conv import conv1d, conv2d
from parallel_params.tensor.ops.windows import (
    PerDim,
    check_pad_mode,
    pad_pairs,
    per_dim,
)
from parallel_params.tensor.tensor import Tensor
from parallel_params.tensor.window import PadMode


class _Conv(Cell):
    num_dims: ClassVar[int]
    operator: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerDim,
        stride: PerDim = 1,
        pad_mode: PadMode = "same",
        padding: PerDim = 0,
        dilation: PerDim = 1,
        group: int = 1,
        has_bias: bool = False,
        weight_init: "Init | None" = None,
        bias_init: "Init | None" = None,
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        kind, num_dims = type(self).__name__, self.num_dims
        if not isinstance(has_bias, bool):
            raise TypeError(f"{kind}: has_bias is True or False, not {has_bias!r}")
        _check_channels(kind, in_channels, out_channels, group)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.group, self.has_bias = group, has_bias
        self.kernel_size = per_dim(
            f"{kind}: kernel_size", kernel_size, num_dims, least=1
        )
        self.stride = per_dim(f"{kind}: stride", stride, num_dims, least=1)
        self.dilation = per_dim(f"{kind}: dilation", dilation, num_dims, least=1)
        check_pad_mode(kind, pad_mode, pad_pairs(padding, num_dims, kind))
        self.pad_mode: PadMode = pad_mode
        self.padding: PerDim = padding if isinstance(padding, int) else tuple(padding)
        shape = (out_channels, in_channels // group, *self.kernel_size)
        law = HeUniform(math.sqrt(5)) if weight_init is None else weight_init
        self.weight = Parameter(initializer(law, shape, dtype), name="weight")
        self.bias: Parameter | None = None
        if has_bias:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            law = Uniform(bound) if bias_init is None else bias_init
            self.bias = Parameter(initializer(law, [out_channels], dtype), name="bias")

    def construct(self, x: Tensor) -> Tensor:
        """Return [N, out_channels, ...] for x of [N, in_channels, ...]."""
        return type(self).operator(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.pad_mode,
            self.padding,
            self.dilation,
            self.group,
        )

    def extend_repr(self) -> str:
        """Return the settings."""
        return (
            f"input_channels={self.in_channels}, output_channels={self.out_channels}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}, "
            f"pad_mode={self.pad_mode}, padding={self.padding}, "
            f"dilation={self.dilation}, group={self.group}, has_bias={self.has_bias}"
        )


class Conv2d(_Conv):
    """Convolution of [N, C, H, W] with a kernel of two dims, and a bias if wanted.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        kernel_size: one number, or (KH, KW).
        stride: from window to window; one number, or one for H and one for W.
        pad_mode: "same": the output has H / stride rows, rounded up; "valid": no
            padding; "pad": `padding` zeros.
        padding: for "pad": one number, (H, W), or (top, bottom, left, right).
        dilation: from element to element of a window.
        group: the channels are cut into so many parts, which do not see each other.
        has_bias: whether there is a bias.
        weight_init: law of the weight [out, in / group, KH, KW]; `HeUniform(sqrt(5))`.
        bias_init: law of the bias [out]; even on +-1 / sqrt(fan in).
        dtype: of weight and bias.

    Raises:
        TypeError: a setting is no integer, or `has_bias` no bool.
        ValueError: a setting is too small or unknown, or `group` does not divide the
            channels.
    """

    num_dims = 2
    operator = staticmethod(conv2d)


class Conv1d(_Conv):
    """Convolution of [N, C, L] with a kernel of one dim; otherwise as `Conv2d`.

    The weight is [out, in / group, K]; `padding` is one number or (in front, behind).
    """

    num_dims = 1
    operator = staticmethod(conv1d)


def _check_channels(kind: str, given: object, made: object, group: object) -> None:
    names = ("in_channels", "out_channels", "group")
    num_in, num_out, num_groups = (
        per_dim(f"{kind}: {name}", value, 1, least=1)[0]
        for name, value in zip(names, (given, made, group), strict=True)
    )
    if num_in % num_groups or num_out % num_groups:
        raise ValueError(
            f"{kind}: group={group} must divide in_channels={given} and "
            f"out_channels={made}"
        )
