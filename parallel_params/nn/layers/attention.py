"""`MultiheadAttention` and `RotaryEmbedding`; the arithmetic is in `tensor/ops`."""

import math

import numpy as np

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers import attention_inputs as inputs
from parallel_params.nn.layers.basic import Dense
from parallel_params.nn.layers.checks import checked_chance, checked_count
from parallel_params.nn.packing import ATTENTION
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import checked_bool
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init, initializer
from parallel_params.tensor.ops.attention import scaled_dot_product_attention
from parallel_params.tensor.ops.attention_plain import probabilities, weighted
from parallel_params.tensor.ops.dropout import dropout
from parallel_params.tensor.ops.indexing import taken
from parallel_params.tensor.ops.matmul import linear
from parallel_params.tensor.ops.rotary import rotary, rotated
from parallel_params.tensor.ops.self_attention import Turns, self_attention
from parallel_params.tensor.rotary_kernels import rotary_table
from parallel_params.tensor.tensor import Tensor


class RotaryEmbedding(Cell):
    """Vectors turned by angles that grow with their position.

    Args:
        dim: the width of a vector, even.
        base: pair i at position p is turned by p * base^(-2 i / dim).

    Raises:
        TypeError: `dim` is no int.
        ValueError: `dim` is odd, or not positive.

    Source: Su et al., RoFormer (2021), section 3.4.2.
    """

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        self.dim = checked_count("dim", dim)
        if dim % 2:
            raise ValueError(f"dim is even, because numbers turn in pairs, not {dim}")
        self.base = base

    def construct(self, x: Tensor, start: int = 0) -> Tensor:
        """Return x of [..., positions, dim], turned; the first position is `start`."""
        stop = start + x.shape[-2]
        cos, sin = rotary_table(stop, self.dim, self.base, x.asnumpy().dtype)
        return rotary(x, Tensor.wrap(cos[start:]), Tensor.wrap(sin[start:]))

    def extend_repr(self) -> str:
        """Return the settings."""
        return f"dim={self.dim}, base={self.base}"


class MultiheadAttention(Cell):
    """Attention of many heads, each with its own projections of what it is given.

    The weights have PyTorch's names and layout. Within one sequence all projections are
    one product.

    Args:
        embed_dim: the width of the query and of the result.
        num_heads: how many heads share it evenly.
        dropout: chance of a probability to become zero while training.
        has_bias: whether the projections have a bias.
        kdim: the width of the key; `embed_dim` by default.
        vdim: the width of the value; `embed_dim` by default.
        batch_first: whether tensors are [batch, positions, width], rather than
            [positions, batch, width].
        dtype: of the weights.
        num_kv_heads: how many heads keys and values have, each of which serves an equal
            share of the query's; `num_heads` by default.
        rotary: whether queries and keys are turned by their positions.
        rotary_base: how fast, see `RotaryEmbedding`.
        weight_init: law of the projections.

    Raises:
        TypeError: a setting is of another type.
        ValueError: the heads do not divide the width, or the key's heads the heads.

    Source: Vaswani et al., Attention Is All You Need (2017), section 3.2.2; Ainslie et
    al., GQA (2023), section 2.
    """

    packings = ATTENTION

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        has_bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: DType = float32,
        num_kv_heads: int | None = None,
        rotary: bool = False,
        rotary_base: float = 10000.0,
        weight_init: Init = "xavier_uniform",
    ) -> None:
        super().__init__()
        self.embed_dim = checked_count("embed_dim", embed_dim)
        self.num_heads = checked_count("num_heads", num_heads)
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.num_kv_heads = checked_count("num_kv_heads", kv_heads)
        self.head_dim = _head_dim(embed_dim, num_heads, kv_heads)
        self.dropout = checked_chance("dropout", dropout)
        self.batch_first = checked_bool("batch_first", batch_first)
        self.rotary = checked_bool("rotary", rotary)
        self.rotary_base = rotary_base
        if rotary and self.head_dim % 2:
            raise ValueError(
                f"rotary needs an even width of heads, not {self.head_dim}"
            )
        self.kdim = checked_count("kdim", embed_dim if kdim is None else kdim)
        self.vdim = checked_count("vdim", embed_dim if vdim is None else vdim)
        self._make_weights(checked_bool("has_bias", has_bias), weight_init, dtype)

    def _make_weights(self, has_bias: bool, law: Init, dtype: DType) -> None:
        wide, narrow = self.embed_dim, self.num_kv_heads * self.head_dim
        rows = (wide, narrow, narrow)
        self._is_packed = self.kdim == self.vdim == wide
        if self._is_packed:
            weight = initializer(law, [sum(rows), wide], dtype)
            self.in_proj_weight = Parameter(weight, name="in_proj_weight")
        else:
            widths = (wide, self.kdim, self.vdim)
            for name, num, width in zip("qkv", rows, widths, strict=True):
                weight = initializer(law, [num, width], dtype)
                setattr(self, f"{name}_proj_weight", Parameter(weight))
        self.in_proj_bias: Parameter | None = None
        if has_bias:
            bias = initializer("zeros", [sum(rows)], dtype)
            self.in_proj_bias = Parameter(bias, name="in_proj_bias")
        self.out_proj = Dense(wide, wide, law, has_bias=has_bias, dtype=dtype)

    def construct(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what the heads found, and their probabilities if they are asked for.

        Args:
            query: [batch, queries, embed_dim], [queries, batch, embed_dim] or, for one
                sequence, [queries, embed_dim].
            key: likewise, with keys and kdim; the query by default.
            value: likewise, with keys and vdim; the key by default.
            key_padding_mask: [batch, keys] True for keys that nobody sees; or numbers
                to add to the scores.
            need_weights: whether to return the probabilities, which then must be made.
            attn_mask: [queries, keys] or [batch * heads, queries, keys] True where a
                query must not see a key; or numbers to add to the scores.
            average_attn_weights: whether over the heads.
            is_causal: whether query i sees only the keys 0 to i.

        Returns:
            [shape of query]; and [batch, queries, keys] or [batch, heads, queries,
            keys], None if not needed.

        Raises:
            ValueError: shapes do not fit.
        """
        key = query if key is None else key
        value = key if value is None else value
        is_within = key is query and value is query and self._is_packed
        q = self._batch_first(query, "query", self.embed_dim)
        k = q if key is query else self._batch_first(key, "key", self.kdim)
        v = k if value is key else self._batch_first(value, "value", self.vdim)
        bias = inputs.as_bias(key_padding_mask, attn_mask, q, k, self.num_heads)
        is_trained = bias is not None and bias._node is not None
        weights = None
        if is_within and not need_weights and not is_trained:
            out = self._within(q, bias, is_causal)
        else:
            out, weights = self._between((q, k, v), bias, is_causal, need_weights)
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if query.ndim == 3 else weights.reshape(weights.shape[1:])
        return inputs.as_given(out, query, self.batch_first), weights

    def _batch_first(self, x: Tensor, name: str, width: int) -> Tensor:
        return inputs.batch_first(x, name, width, self.batch_first)

    def _within(self, x: Tensor, bias: Tensor | None, is_causal: bool) -> Tensor:
        batch, length, _ = x.shape
        heads = self.num_heads + 2 * self.num_kv_heads
        packed = linear(x, self.in_proj_weight, self.in_proj_bias)
        packed = packed.reshape((batch, length, heads, self.head_dim))
        shape = (batch, self.num_heads, length, length)
        found = self_attention(
            packed,
            self.num_kv_heads,
            None if bias is None else np.broadcast_to(bias.asnumpy(), shape),
            self.dropout if self.training else 0.0,
            is_causal,
            self._turns(length),
        )
        out: Tensor = self.out_proj(found.reshape((batch, length, self.embed_dim)))
        return out

    def _between(
        self,
        tensors: tuple[Tensor, Tensor, Tensor],
        bias: Tensor | None,
        is_causal: bool,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (self._heads(i, x) for i, x in enumerate(tensors))
        dropout_p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scale = 1.0 / math.sqrt(self.head_dim)
            weights = probabilities(q, k, bias, is_causal, scale)
            weights = dropout(weights, dropout_p)
            found = weighted(weights, v)
        else:
            found = scaled_dot_product_attention(
                q, k, v, bias, dropout_p, is_causal, enable_gqa=True
            )
        batch, _, length, _ = q.shape
        found = found.transpose(0, 2, 1, 3).reshape((batch, length, self.embed_dim))
        return self.out_proj(found), weights

    def _heads(self, place: int, x: Tensor) -> Tensor:
        """Return the projections of query (0), key (1) or value (2), turned."""
        num = self.num_kv_heads if place else self.num_heads
        narrow = self.num_kv_heads * self.head_dim
        start = (0, self.embed_dim, self.embed_dim + narrow)[place]
        rows = slice(start, start + num * self.head_dim)
        if self._is_packed:
            weight = taken(self.in_proj_weight, rows)
        else:
            weight = getattr(self, f"{'qkv'[place]}_proj_weight")
        bias = None if self.in_proj_bias is None else taken(self.in_proj_bias, rows)
        out = linear(x, weight, bias)
        batch, length, _ = out.shape
        out = out.reshape((batch, length, num, self.head_dim)).transpose(0, 2, 1, 3)
        turns = None if place == 2 else self._turns(length)
        return out if turns is None else rotated(out, *turns)

    def _turns(self, length: int) -> Turns | None:
        if not self.rotary:
            return None
        dtype = self.out_proj.weight.asnumpy().dtype
        return rotary_table(length, self.head_dim, self.rotary_base, dtype)

    def extend_repr(self) -> str:
        """Return the settings."""
        text = f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"
        if self.num_kv_heads != self.num_heads:
            text += f", num_kv_heads={self.num_kv_heads}"
        return text + (f", rotary={self.rotary}" if self.rotary else "")


def _head_dim(embed_dim: int, num_heads: int, num_kv_heads: int) -> int:
    if embed_dim % num_heads:
        raise ValueError(
            f"num_heads {num_heads} does not divide embed_dim {embed_dim} evenly"
        )
    if num_heads % num_kv_heads:
        raise ValueError(
            f"num_kv_heads {num_kv_heads} does not divide num_heads {num_heads} evenly"
        )
    return embed_dim // num_heads
