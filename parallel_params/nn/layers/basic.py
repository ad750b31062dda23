"""`Dense`, `Flatten`, `Dropout`, `Identity`.

The arithmetic is in `tensor/ops`; a layer holds parameters and settings.
"""

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers import activation as activations
from parallel_params.nn.layers.checks import checked_count, checked_number
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init, initializer
from parallel_params.tensor.ops.dropout import dropout
from parallel_params.tensor.ops.matmul import linear
from parallel_params.tensor.ops.shape import flatten
from parallel_params.tensor.tensor import Tensor


class Dense(Cell):
    """activation(x @ weight.T + bias).

    Args:
        in_channels: the last dim of the input.
        out_channels: the last dim of the output.
        weight_init: law of the weight, [out_channels, in_channels]; N(0, 0.01^2).
        bias_init: law of the bias, [out_channels].
        has_bias: whether there is a bias.
        activation: a name ("relu", "gelu", "tanh", "sigmoid", ...), a cell, or None.
        dtype: of weight and bias; one given as a Tensor keeps its own.

    Raises:
        TypeError: the channels are no ints, `has_bias` no bool, or `activation` is
            neither text nor cell.
        ValueError: the channels are not positive, the activation is unknown, or a law
            does not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        weight_init: Init = "normal",
        bias_init: Init = "zeros",
        has_bias: bool = True,
        activation: "str | Cell | None" = None,
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        self.in_channels = checked_count("in_channels", in_channels)
        self.out_channels = checked_count("out_channels", out_channels)
        if not isinstance(has_bias, bool):
            raise TypeError(f"has_bias is True or False, not {has_bias!r}")
        self.has_bias = has_bias
        shape = [out_channels, in_channels]
        self.weight = Parameter(initializer(weight_init, shape, dtype), name="weight")
        self.bias: Parameter | None = None
        if has_bias:
            law = initializer(bias_init, [out_channels], dtype)
            self.bias = Parameter(law, name="bias")
        self.activation = activations.get_activation(activation)

    def construct(self, x: Tensor) -> Tensor:
        """Return [..., out_channels] for x of [..., in_channels]."""
        activation = self.activation
        if activation is None:
            return linear(x, self.weight, self.bias)
        fused = activations.fused_name(activation)
        out = linear(x, self.weight, self.bias, fused)
        if fused is None:
            applied: Tensor = activation(out)
            return applied
        return out

    def extend_repr(self) -> str:
        """Return the settings."""
        text = f"input_channels={self.in_channels}, output_channels={self.out_channels}"
        if self.has_bias:
            text += f", has_bias={self.has_bias}"
        if self.activation is not None:
            text += f", activation={self.activation}"
        return text


class Flatten(Cell):
    """Make the dims from `start_dim` to `end_dim` one; by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def construct(self, x: Tensor) -> Tensor:
        """Return the elements of x, in C order, in fewer dims."""
        return flatten(x, self.start_dim, self.end_dim)


class Dropout(Cell):
    """While training, set elements to zero at random and scale up the others.

    The mask is a function of the seed, the open `random.scope`, how many draws the
    scope has seen, and the position in the input: not of the rank.

    Args:
        keep_prob: chance of an element to stay, in (0, 1]; MindSpore's older spelling.
        p: chance of an element to become zero, in [0, 1); if given it decides.

    Raises:
        TypeError: a chance is no number.
        ValueError: a chance is out of range.
    """

    def __init__(self, keep_prob: float = 0.5, p: float | None = None) -> None:
        super().__init__()
        self.keep_prob = _chance("keep_prob", keep_prob)
        if p is not None:
            self.keep_prob = _chance("1 - p", 1.0 - p)
        self.p = p

    def construct(self, x: Tensor) -> Tensor:
        """Return x with some elements zero, of the same mean; in evaluation, x."""
        if not self.training or self.keep_prob == 1.0:
            return x
        return dropout(x, 1.0 - self.keep_prob if self.p is None else self.p)

    def extend_repr(self) -> str:
        """Return the chance, as it was given."""
        return f"keep_prob={self.keep_prob}" if self.p is None else f"p={self.p}"


def _chance(setting: str, value: object) -> float:
    chance = checked_number(setting, value)
    if not 0.0 < chance <= 1.0:
        raise ValueError(f"{setting} lies in (0, 1], not at {chance}")
    return chance


class Identity(Cell):
    """Nothing."""

    def construct(self, x: Tensor) -> Tensor:
        """Return x."""
        return x
