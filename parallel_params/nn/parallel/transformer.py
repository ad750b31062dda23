"""Blocks of a transformer whose heads and feed-forward nets are cut along an axis."""

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers.basic import Dropout
from parallel_params.nn.layers.feed_forward import hidden_width
from parallel_params.nn.layers.transformer import make_norm
from parallel_params.nn.packing import GATED
from parallel_params.nn.parallel.attention import HeadParallelAttention
from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.cell import AxisCell
from parallel_params.nn.parallel.dense import ColumnParallelDense, RowParallelDense
from parallel_params.nn.parallel.packed import packed_parts
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.ops.activation import named, silu
from parallel_params.tensor.tensor import Tensor

_FUSED = ("relu", "gelu", "tanh", "sigmoid")


class ParallelFeedForward(AxisCell):
    """`FeedForward` or `SwiGLU`, each rank with its part of the width between.

    Args:
        dim: the width of input and output.
        hidden_dim: the width between, of all ranks; by default that of the one-rank
            layer: 4 * dim, or 8 / 3 * dim rounded up to a multiple of 8 with a gate.
        activation: elementwise, by name, or "swiglu" for a gate.
        has_bias: whether the products have a bias.
        weight_init: law of the weights.
        dtype: of the weights.
        axis: along which the width between is cut.

    Raises:
        TypeError: `axis` is no Axis.
        ValueError: the activation is unknown.
        PlanError: the axis does not divide the width between, or does not fit its mesh.

    Collective: the ranks along the axis, forward and backward.

    Source: Shoeybi et al., Megatron-LM (2019), section 3; Shazeer, GLU Variants Improve
    Transformer (2020), section 2.
    """

    packings = GATED

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        activation: str = "gelu",
        has_bias: bool = True,
        weight_init: Init = "xavier_uniform",
        dtype: DType = float32,
        *,
        axis: Axis,
    ) -> None:
        super().__init__(axis, sees_same_samples=True)
        self.is_gated = activation == "swiglu"
        wide = hidden_dim
        if wide is None:
            wide = hidden_width(dim, is_gated=self.is_gated)
        fused = activation if activation in _FUSED else None
        self._then = None if self.is_gated or fused else named(activation)

        def make(rows: int, law: Init) -> ColumnParallelDense:
            return ColumnParallelDense(
                dim, rows, law, "zeros", has_bias, fused, dtype, axis=axis
            )

        parts = packed_parts(weight_init, [wide] * (2 if self.is_gated else 1), make)
        self.gate, self.up = (parts[0] if self.is_gated else None), parts[-1]
        self.down = RowParallelDense(
            wide, dim, weight_init, has_bias=has_bias, dtype=dtype, axis=axis
        )

    def construct(self, x: Tensor) -> Tensor:
        """Return [shape of x], for x of [..., dim], the same on every rank."""
        whole = self.up.enter(x)
        if self.gate is not None:
            hidden = silu(self.gate.product(whole)) * self.up.product(whole)
        else:
            hidden = self.up.product(whole)
            hidden = hidden if self._then is None else self._then(hidden)
        out: Tensor = self.down(hidden)
        return out


class ParallelTransformerBlock(Cell):
    """`TransformerBlock`, cut along an axis: attention by heads, the rest by width.

    Weights start as slices of those of the one-rank block, and masks of dropout are the
    same.

    Args:
        dim: the width of input and output.
        num_heads: of all ranks together.
        hidden_dim: see `ParallelFeedForward`.
        axis: along which the block is cut.
        num_kv_heads: how many heads keys and values have; `num_heads` by default.
        is_causal: whether a position sees only itself and those before.
        rotary: whether queries and keys are turned by their positions.
        norm: "layer" or "rms".
        activation: "swiglu", or elementwise by name.
        dropout: chance of a probability, and of an element of what is added to x, to
            become zero while training.
        has_bias: whether products and norms have a bias.
        weight_init: law of the weights.
        dtype: of the weights.

    Raises:
        TypeError, ValueError: as `TransformerBlock`.
        PlanError: the axis does not divide heads or widths, or does not fit its mesh.

    Collective: the ranks along the axis, forward and backward.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden_dim: int | None = None,
        *,
        axis: Axis,
        num_kv_heads: int | None = None,
        is_causal: bool = True,
        rotary: bool = False,
        norm: str = "layer",
        activation: str = "gelu",
        dropout: float = 0.0,
        has_bias: bool = True,
        weight_init: Init = "xavier_uniform",
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        self.attention_norm = make_norm(norm, dim, 1e-5, has_bias, dtype)
        self.attention = HeadParallelAttention(
            dim,
            num_heads,
            axis=axis,
            num_kv_heads=num_kv_heads,
            is_causal=is_causal,
            has_bias=has_bias,
            weight_init=weight_init,
            dtype=dtype,
            dropout=dropout,
            rotary=rotary,
        )
        self.dropout = Dropout(p=dropout)
        self.feed_norm = make_norm(norm, dim, 1e-5, has_bias, dtype)
        self.feed_forward = ParallelFeedForward(
            dim, hidden_dim, activation, has_bias, weight_init, dtype, axis=axis
        )

    def construct(self, x: Tensor) -> Tensor:
        """Return [batch, positions, dim] for x of that shape, equal on every rank."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_norm(x)))
        return out
