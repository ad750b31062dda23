"""Self-attention whose heads are cut along an axis: each rank has some of them."""

from typing import TypedDict

from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.cell import AxisCell
from parallel_params.nn.parallel.dense import ColumnParallelDense, RowParallelDense
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.ops.attention import scaled_dot_product_attention
from parallel_params.tensor.tensor import Tensor


class _Settings(TypedDict):
    """What the projections have in common."""

    has_bias: bool
    dtype: DType
    axis: Axis
    sequence_dim: int | None


class HeadParallelAttention(AxisCell):
    """Self-attention of many heads, each rank with its part of the heads.

    Args:
        embed_dim: the width of input and output.
        num_heads: of all ranks together; they share the width evenly.
        num_kv_heads: how many heads keys and values have, each of which serves an equal
            share of the query's; `num_heads` by default.
        is_causal: whether a position sees only those before it and itself.
        has_bias: whether the projections have a bias.
        weight_init: law of the projections.
        dtype: of all weights.
        axis: along which the heads are cut.
        sequence_dim: input and output are cut along this dim, see
            `ColumnParallelDense`; None for whole ones.

    Raises:
        TypeError: `axis` is no Axis.
        ValueError: the heads do not divide the width, or the key's heads the heads.
        PlanError: the axis does not divide the heads, or does not fit its mesh.

    Source: Shoeybi et al., Megatron-LM (2019), section 3.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        axis: Axis,
        num_kv_heads: int | None = None,
        is_causal: bool = False,
        has_bias: bool = True,
        weight_init: Init = "xavier_uniform",
        dtype: DType = float32,
        sequence_dim: int | None = None,
    ) -> None:
        super().__init__(axis, sees_same_samples=True)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim = _head_dim(embed_dim, num_heads, num_kv_heads)
        # Heads stay whole: what the axis has to divide is their number.
        for what, number in (("num_heads", num_heads), ("num_kv_heads", num_kv_heads)):
            axis.part_of(number, f"HeadParallelAttention: {what}")
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.is_causal = is_causal
        settings = _Settings(
            has_bias=has_bias, dtype=dtype, axis=axis, sequence_dim=sequence_dim
        )
        self.query, self.key, self.value = (
            ColumnParallelDense(
                embed_dim, heads * self.head_dim, weight_init, **settings
            )
            for heads in (num_heads, num_kv_heads, num_kv_heads)
        )
        self.out = RowParallelDense(embed_dim, embed_dim, weight_init, **settings)

    def construct(self, x: Tensor) -> Tensor:
        """Return [batch, positions, embed_dim].

        Args:
            x: [batch, positions, embed_dim], the same on every rank of the axis, or its
                part along `sequence_dim`.

        Collective: the ranks along the axis, in backward too.
        """
        q, k, v = (
            self._split_heads(project(x))
            for project in (self.query, self.key, self.value)
        )
        heads = scaled_dot_product_attention(
            q,
            k,
            v,
            is_causal=self.is_causal,
            enable_gqa=self.num_kv_heads != self.num_heads,
        )
        batch, num_own, positions, width = heads.shape
        merged = heads.swapaxes(1, 2).reshape(batch, positions, num_own * width)
        attended: Tensor = self.out(merged)
        return attended

    def extend_repr(self) -> str:
        """Return the settings."""
        return (
            f"num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}, "
            f"axis={self.axis.name} of {self.axis.size}"
        )

    def _split_heads(self, x: Tensor) -> Tensor:
        batch, positions, width = x.shape
        heads = x.reshape(batch, positions, width // self.head_dim, self.head_dim)
        split: Tensor = heads.swapaxes(1, 2)
        return split


def _head_dim(embed_dim: int, num_heads: int, num_kv_heads: int) -> int:
    if embed_dim % num_heads or num_heads % num_kv_heads:
        raise ValueError(
            f"{num_heads} heads have to divide the width {embed_dim}, and "
            f"{num_kv_heads} key heads the heads"
        )
    return embed_dim // num_heads
