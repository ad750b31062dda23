"""The feed-forward half of a transformer block, plain and gated."""

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers.basic import Dense, Dropout
from parallel_params.nn.layers.checks import checked_count
from parallel_params.nn.packing import GATED
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.ops.gated import swiglu
from parallel_params.tensor.tensor import Tensor


def hidden_width(dim: int, *, is_gated: bool) -> int:
    """Return the width between if none is given, for a width `dim` of the input.

    A gated layer has three weights where a plain one has two: with 8 / 3 * dim, rounded
    up to a multiple of 8, it has about as many numbers as a plain one with 4 * dim.

    Source: Shazeer, GLU Variants Improve Transformer (2020), section 3.
    """
    return -(-8 * dim // 24) * 8 if is_gated else 4 * dim


class FeedForward(Cell):
    """Out to a wider layer, an activation, and back.

    Args:
        dim: the width of input and output.
        hidden_dim: the width between; 4 * dim by default.
        activation: a name that `Dense` knows, or a cell.
        dropout: chance of an element of the output to become zero while training.
        has_bias: whether the two products have a bias.
        weight_init: law of the weights.
        dtype: of the weights.

    Raises:
        TypeError: a width is no int.
        ValueError: a width is not positive, or the activation is unknown.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        activation: "str | Cell | None" = "gelu",
        dropout: float = 0.0,
        has_bias: bool = True,
        weight_init: Init = "xavier_uniform",
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        checked_count("dim", dim)
        wide = hidden_dim
        if wide is None:
            wide = hidden_width(dim, is_gated=False)
        self.up = Dense(dim, wide, weight_init, "zeros", has_bias, activation, dtype)
        self.down = Dense(wide, dim, weight_init, has_bias=has_bias, dtype=dtype)
        self.dropout = Dropout(p=dropout)

    def construct(self, x: Tensor) -> Tensor:
        """Return [shape of x], for x of [..., dim]."""
        out: Tensor = self.dropout(self.down(self.up(x)))
        return out


class SwiGLU(Cell):
    """A feed-forward layer in which one half of the wide layer gates the other.

    Args:
        dim: the width of input and output.
        hidden_dim: the width between, of each half; by default 8 / 3 * dim, rounded up
            to a multiple of 8: about as many weights as `FeedForward` has.
        dropout: chance of an element of the output to become zero while training.
        has_bias: whether the two products have a bias.
        weight_init: law of the weights.
        dtype: of the weights.

    Raises:
        TypeError: a width is no int.
        ValueError: a width is not positive.

    Source: Shazeer, GLU Variants Improve Transformer (2020), section 2.
    """

    packings = GATED

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        dropout: float = 0.0,
        has_bias: bool = False,
        weight_init: Init = "xavier_uniform",
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        checked_count("dim", dim)
        wide = hidden_dim
        if wide is None:
            wide = hidden_width(dim, is_gated=True)
        checked_count("hidden_dim", wide)
        # Gate and gated lie in one weight, [2 * hidden_dim, dim]: one product.
        self.up = Dense(dim, 2 * wide, weight_init, has_bias=has_bias, dtype=dtype)
        self.down = Dense(wide, dim, weight_init, has_bias=has_bias, dtype=dtype)
        self.dropout = Dropout(p=dropout)

    def construct(self, x: Tensor) -> Tensor:
        """Return [shape of x], for x of [..., dim]."""
        out: Tensor = self.dropout(self.down(swiglu(self.up(x))))
        return out
