"""`Dense` cut along an axis: by its outputs (columns of x @ W.T), or by its inputs.

A pair of them, columns first, needs one sum forward and one backward, and nothing is
whole in between: the feed-forward layer of a transformer on several ranks.
"""

from parallel_params.errors import PlanError
from parallel_params.nn.layers import activation as activations
from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.cell import AxisCell
from parallel_params.nn.parallel.passing import (
    enter,
    enter_cut,
    join,
    leave,
    leave_cut,
    sum_cut,
)
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init, initializer
from parallel_params.tensor.ops.matmul import linear
from parallel_params.tensor.tensor import Tensor


class ColumnParallelDense(AxisCell):
    """activation(x @ weight.T + bias), each rank with its part of the outputs.

    Args:
        in_channels: the last dim of the input.
        out_channels: the last dim of the whole output.
        weight_init: law of the whole weight, [out_channels, in_channels].
        bias_init: law of the whole bias, [out_channels].
        has_bias: whether there is a bias.
        activation: elementwise, by name ("relu", "gelu", "tanh", "sigmoid"), or None.
        dtype: of weight and bias.
        axis: along which the outputs are cut.
        is_output_whole: join the parts at the end.
        sequence_dim: the input comes cut along this dim, from sequence-parallel cells,
            and is joined here; None for a whole input.

    Raises:
        TypeError: `axis` is no Axis.
        ValueError: the activation is unknown.
        PlanError: the axis does not divide `out_channels`, or does not fit its mesh.

    Source: Shoeybi et al., Megatron-LM (2019), section 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        weight_init: Init = "normal",
        bias_init: Init = "zeros",
        has_bias: bool = True,
        activation: str | None = None,
        dtype: DType = float32,
        *,
        axis: Axis,
        is_output_whole: bool = False,
        sequence_dim: int | None = None,
    ) -> None:
        super().__init__(axis, sees_same_samples=True)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.is_output_whole, self.sequence_dim = is_output_whole, sequence_dim
        self.activation = _elementwise(activation)
        self.weight = self.cut_parameter(
            weight_init,
            (out_channels, in_channels),
            dtype,
            name="weight",
            what="out_channels",
        )
        self.bias: Parameter | None = None
        if has_bias:
            self.bias = self.cut_parameter(
                bias_init, (out_channels,), dtype, name="bias", what="out_channels"
            )

    def construct(self, x: Tensor) -> Tensor:
        """Return this rank's part, [..., out_channels / ranks], or the whole output.

        Args:
            x: [..., in_channels], the same on every rank of the axis, or its part
                along `sequence_dim`.

        Collective: the ranks along the axis.
        """
        out = self.product(self.enter(x))
        return leave_cut(out, self.axis) if self.is_output_whole else out

    def enter(self, x: Tensor) -> Tensor:
        """Return the whole input, whose gradient is summed along the axis.

        Cells that read the same input need it once: see `product`.

        Collective: the ranks along the axis, in backward too.
        """
        dim = self.sequence_dim
        return enter(x, self.axis) if dim is None else join(x, self.axis, dim)

    def product(self, whole: Tensor) -> Tensor:
        """Return this rank's part of the output, for what `enter` gave."""
        return linear(whole, self.weight, self.bias, self.activation)

    def extend_repr(self) -> str:
        """Return the settings."""
        return _settings(self)


class RowParallelDense(AxisCell):
    """activation(x @ weight.T + bias), each rank with its part of the inputs.

    Args:
        in_channels: the last dim of the whole input.
        out_channels: the last dim of the output.
        weight_init: law of the whole weight, [out_channels, in_channels].
        bias_init: law of the bias, [out_channels], which is whole on every rank.
        has_bias: whether there is a bias.
        dtype: of weight and bias.
        axis: along which the inputs are cut.
        is_input_whole: the input is whole and is cut here; by default it comes cut,
            from a `ColumnParallelDense`.
        sequence_dim: leave the output cut along this dim, for sequence-parallel cells;
            None for a whole output.

    Raises:
        TypeError: `axis` is no Axis.
        PlanError: the axis does not divide `in_channels`, or does not fit its mesh.

    Source: Shoeybi et al., Megatron-LM (2019), section 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        weight_init: Init = "normal",
        bias_init: Init = "zeros",
        has_bias: bool = True,
        dtype: DType = float32,
        *,
        axis: Axis,
        is_input_whole: bool = False,
        sequence_dim: int | None = None,
    ) -> None:
        super().__init__(axis, sees_same_samples=True)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.is_input_whole, self.sequence_dim = is_input_whole, sequence_dim
        self.weight = self.cut_parameter(
            weight_init,
            (out_channels, in_channels),
            dtype,
            name="weight",
            dim=1,
            what="in_channels",
        )
        self.bias: Parameter | None = None
        if has_bias:
            law = initializer(bias_init, [out_channels], dtype)
            self.bias = Parameter(law, name="bias")

    def construct(self, x: Tensor) -> Tensor:
        """Return [..., out_channels], whole, or cut along `sequence_dim`.

        Args:
            x: [..., in_channels / ranks], this rank's part; or the whole input.

        Collective: the ranks along the axis.
        """
        part = enter_cut(x, self.axis) if self.is_input_whole else x
        partial, bias, dim = linear(part, self.weight), self.bias, self.sequence_dim
        # The bias comes behind the sum, where it is added once.
        if dim is None:
            out = leave(partial, self.axis)
            return out if bias is None else out + bias
        out = sum_cut(partial, self.axis, dim)
        return out if bias is None else out + enter(bias, self.axis)

    def extend_repr(self) -> str:
        """Return the settings."""
        return _settings(self)


def _elementwise(name: str | None) -> str | None:
    """Return the name of an activation that `linear` fuses; these are elementwise."""
    if name is None:
        return None
    cell = activations.get_activation(name)
    if cell is None or activations.fused_name(cell) is None:
        raise PlanError(
            f"activation {name!r} cannot be applied to a part of the outputs; use "
            "relu, gelu, tanh or sigmoid, or a cell behind is_output_whole=True"
        )
    return name


def _settings(cell: ColumnParallelDense | RowParallelDense) -> str:
    text = f"input_channels={cell.in_channels}, output_channels={cell.out_channels}"
    if cell.bias is not None:
        text += ", has_bias=True"
    return f"{text}, axis={cell.axis.name} of {cell.axis.size}"
