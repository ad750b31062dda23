"""Blocks of a transformer: `TransformerBlock`, and PyTorch's encoder layer."""

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers.attention import MultiheadAttention
from parallel_params.nn.layers.basic import Dense, Dropout
from parallel_params.nn.layers.feed_forward import FeedForward, SwiGLU
from parallel_params.nn.layers.norm import LayerNorm, RMSNorm
from parallel_params.nn.settings import checked_bool
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.tensor import Tensor


class TransformerBlock(Cell):
    """x + attention(norm(x)), then x + feed_forward(norm(x)).

    By default the block of a decoder-only model such as GPT-2; with rotary=True,
    norm="rms", activation="swiglu", has_bias=False and `num_kv_heads`, that of one such
    as Llama.

    Args:
        dim: the width of input and output.
        num_heads: how many heads share it evenly.
        hidden_dim: the width of the feed-forward layer; see it for the default.
        num_kv_heads: how many heads keys and values have; `num_heads` by default.
        is_causal: whether a position sees only itself and those before.
        rotary: whether queries and keys are turned by their positions.
        norm: "layer" or "rms".
        activation: "swiglu", a name that `Dense` knows, or a cell.
        dropout: chance of a probability, and of an element of what is added to x, to
            become zero while training.
        has_bias: whether products and norms have a bias.
        weight_init: law of the weights.
        epsilon: of the norms.
        dtype: of the weights.

    Raises:
        TypeError: a setting is of another type.
        ValueError: the heads do not divide the width, or a name is unknown.

    Source: Radford et al., Language Models are Unsupervised Multitask Learners (2019),
    section 2.3, for the place of the norms.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden_dim: int | None = None,
        *,
        num_kv_heads: int | None = None,
        is_causal: bool = True,
        rotary: bool = False,
        norm: str = "layer",
        activation: "str | Cell" = "gelu",
        dropout: float = 0.0,
        has_bias: bool = True,
        weight_init: Init = "xavier_uniform",
        epsilon: float = 1e-5,
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        self.is_causal = checked_bool("is_causal", is_causal)
        self.attention_norm = make_norm(norm, dim, epsilon, has_bias, dtype)
        self.attention = MultiheadAttention(
            dim,
            num_heads,
            dropout,
            has_bias,
            batch_first=True,
            dtype=dtype,
            num_kv_heads=num_kv_heads,
            rotary=rotary,
            weight_init=weight_init,
        )
        self.dropout = Dropout(p=dropout)
        self.feed_norm = make_norm(norm, dim, epsilon, has_bias, dtype)
        law = weight_init
        self.feed_forward: Cell
        if activation == "swiglu":
            self.feed_forward = SwiGLU(dim, hidden_dim, dropout, has_bias, law, dtype)
        else:
            self.feed_forward = FeedForward(
                dim, hidden_dim, activation, dropout, has_bias, law, dtype
            )

    def construct(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Return [batch, positions, dim] for x of that shape.

        Args:
            x: [batch, positions, dim].
            attn_mask: as of `MultiheadAttention`.
            key_padding_mask: as of `MultiheadAttention`.
        """
        found, _ = self.attention(
            self.attention_norm(x),
            key_padding_mask=key_padding_mask,
            need_weights=False,
            attn_mask=attn_mask,
            is_causal=self.is_causal,
        )
        x = x + self.dropout(found)
        out: Tensor = x + self.feed_forward(self.feed_norm(x))
        return out


def make_norm(
    name: str, dim: int, epsilon: float, has_bias: bool, dtype: DType
) -> LayerNorm | RMSNorm:
    """Return the norm of a name.

    Raises:
        ValueError: there is none of that name.
    """
    if name == "rms":
        return RMSNorm(dim, epsilon=epsilon, dtype=dtype)
    if name == "layer":
        return LayerNorm(dim, epsilon=epsilon, has_bias=has_bias, dtype=dtype)
    raise ValueError(f"norm is 'layer' or 'rms', not {name!r}")


class TransformerEncoderLayer(Cell):
    """Self-attention and a feed-forward layer, under MindSpore's and PyTorch's names.

    Args:
        d_model: the width of input and output.
        nhead: how many heads share it evenly.
        dim_feedforward: the width of the feed-forward layer.
        dropout: chance of an element to become zero while training.
        activation: a name that `Dense` knows, or a cell.
        layer_norm_eps: added to variances.
        batch_first: whether tensors are [batch, positions, width], rather than
            [positions, batch, width].
        norm_first: whether norms stand before what is added, rather than behind it.
        dtype: of the weights.

    Raises:
        TypeError: a setting is of another type.
        ValueError: the heads do not divide the width, or the activation is unknown.

    Source: Vaswani et al., Attention Is All You Need (2017), section 3.1.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: "str | Cell" = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, batch_first=batch_first, dtype=dtype
        )
        self.linear1 = Dense(
            d_model, dim_feedforward, "he_uniform", activation=activation, dtype=dtype
        )
        self.dropout = Dropout(p=dropout)
        self.linear2 = Dense(dim_feedforward, d_model, "he_uniform", dtype=dtype)
        self.norm1 = LayerNorm(d_model, epsilon=layer_norm_eps, dtype=dtype)
        self.norm2 = LayerNorm(d_model, epsilon=layer_norm_eps, dtype=dtype)
        self.dropout1 = Dropout(p=dropout)
        self.dropout2 = Dropout(p=dropout)
        self.norm_first = checked_bool("norm_first", norm_first)

    def construct(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return [shape of src].

        Args:
            src: [batch, positions, d_model], or as `batch_first` says.
            src_mask: as the `attn_mask` of `MultiheadAttention`.
            src_key_padding_mask: as its `key_padding_mask`.
            is_causal: whether a position sees only itself and those before.
        """
        x = self.norm1(src) if self.norm_first else src
        found, _ = self.self_attn(
            x, None, None, src_key_padding_mask, False, src_mask, True, is_causal
        )
        x = self.dropout1(found) + src
        if self.norm_first:
            out: Tensor = x + self._feed_forward(self.norm2(x))
        else:
            x = self.norm1(x)
            out = self.norm2(x + self._feed_forward(x))
        return out

    def _feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout2(self.linear2(self.dropout(self.linear1(x))))
        return out
