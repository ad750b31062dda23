"""Self-attention whose heads are cut along an axis: each rank has some of them."""

import math
from typing import TypedDict

from parallel_params.nn.packing import ATTENTION
from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.cell import AxisCell
from parallel_params.nn.parallel.dense import ColumnParallelDense, RowParallelDense
from parallel_params.nn.parallel.packed import packed_parts
from parallel_params.nn.parallel.sequence import SequenceParallelDropout
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.ops.attention import scaled_dot_product_attention
from parallel_params.tensor.ops.attention_plain import probabilities, weighted
from parallel_params.tensor.ops.rotary import rotated
from parallel_params.tensor.rotary_kernels import rotary_table
from parallel_params.tensor.tensor import Tensor


class _Settings(TypedDict):
    """What the projections have in common."""

    has_bias: bool
    dtype: DType
    axis: Axis
    sequence_dim: int | None


class HeadParallelAttention(AxisCell):
    """Self-attention of many heads, each rank with its part of the heads.

    Its projections start as slices of those of `MultiheadAttention` on one rank.

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
        dropout: chance of a probability to become zero while training; the mask is a
            slice of the whole one.
        rotary: whether queries and keys are turned by their positions.
        rotary_base: how fast, see `nn.RotaryEmbedding`.

    Raises:
        TypeError: `axis` is no Axis.
        ValueError: the heads do not divide the width, or the key's heads the heads.
        PlanError: the axis does not divide the heads, or does not fit its mesh.

    Source: Shoeybi et al., Megatron-LM (2019), section 3.
    """

    packings = ATTENTION

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
        dropout: float = 0.0,
        rotary: bool = False,
        rotary_base: float = 10000.0,
    ) -> None:
        super().__init__(axis, sees_same_samples=True)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim = _head_dim(embed_dim, num_heads, num_kv_heads)
        # Heads stay whole: what the axis has to divide is their number.
        for what, number in (("num_heads", num_heads), ("num_kv_heads", num_kv_heads)):
            axis.part_of(number, f"HeadParallelAttention: {what}")
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.is_causal, self.rotary, self.rotary_base = is_causal, rotary, rotary_base
        _check_rotary(rotary, self.head_dim)
        settings = _Settings(
            has_bias=has_bias, dtype=dtype, axis=axis, sequence_dim=sequence_dim
        )
        self.query, self.key, self.value = packed_parts(
            weight_init,
            [
                heads * self.head_dim
                for heads in (num_heads, num_kv_heads, num_kv_heads)
            ],
            lambda rows, law: ColumnParallelDense(embed_dim, rows, law, **settings),
        )
        self.out = RowParallelDense(embed_dim, embed_dim, weight_init, **settings)
        self.dropout = SequenceParallelDropout(dropout, dim=1, axis=axis)

    def construct(self, x: Tensor) -> Tensor:
        """Return [batch, positions, embed_dim].

        Args:
            x: [batch, positions, embed_dim], the same on every rank of the axis, or its
                part along `sequence_dim`.

        Collective: the ranks along the axis, in backward too.
        """
        whole = self.query.enter(x)
        q, k, v = (
            self._split_heads(cell.product(whole))
            for cell in (self.query, self.key, self.value)
        )
        if self.rotary:
            dtype = q.asnumpy().dtype
            turns = rotary_table(q.shape[-2], self.head_dim, self.rotary_base, dtype)
            q, k = rotated(q, *turns), rotated(k, *turns)
        heads = self._attend(q, k, v)
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

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.training and self.dropout.p:
            scale = 1.0 / math.sqrt(self.head_dim)
            p = probabilities(q, k, None, self.is_causal, scale)
            return weighted(self.dropout(p), v)
        return scaled_dot_product_attention(
            q,
            k,
            v,
            is_causal=self.is_causal,
            enable_gqa=self.num_kv_heads != self.num_heads,
        )

    def _split_heads(self, x: Tensor) -> Tensor:
        batch, positions, width = x.shape
        heads = x.reshape(batch, positions, width // self.head_dim, self.head_dim)
        split: Tensor = heads.swapaxes(1, 2)
        return split


def _check_rotary(rotary: bool, head_dim: int) -> None:
    if rotary and head_dim % 2:
        raise ValueError(f"rotary needs an even width of heads, not {head_dim}")


def _head_dim(embed_dim: int, num_heads: int, num_kv_heads: int) -> int:
    if embed_dim % num_heads or num_heads % num_kv_heads:
        raise ValueError(
            f"{num_heads} heads have to divide the width {embed_dim}, and "
            f"{num_kv_heads} key heads the heads"
        )
    return embed_dim // num_heads
