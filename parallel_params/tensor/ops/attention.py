"""Scaled dot-product attention: many heads, fewer key heads, masks, dropout.

What is differentiated twice, or has a mask that is itself trained, is put together from
single operators.
"""

import math

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor import attention_kernels as kernels
from parallel_params.tensor import random, tape
from parallel_params.tensor.attention_tiles import Heads, Keeps, Scheme
from parallel_params.tensor.ops import attention_shapes as shapes
from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.attention_plain import plain_attention
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def scaled_dot_product_attention(
    query: Operand,
    key: Operand,
    value: Operand,
    attn_mask: Operand | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(query @ key^T * scale + mask) @ value, head by head.

    A query that may see no key at all gets zeros.

    Args:
        query: [..., heads, queries, width]; the dims in front are batches.
        key: [..., heads, keys, width], of the query's element type.
        value: [..., heads, keys, width of values].
        attn_mask: broadcasts to [..., heads, queries, keys]: True where a query may see
            a key; or numbers that are added to the scores.
        dropout_p: chance of a probability to become zero, in [0, 1).
        is_causal: whether query i sees only the keys 0 to i.
        scale: 1 / sqrt(width) by default.
        enable_gqa: whether key and value may have fewer heads, each of which then
            serves an equal share of the query's heads, in order.

    Raises:
        TypeError: the element types differ or are not floating point.
        ValueError: shapes do not fit, or `dropout_p` is no chance.

    Source: Vaswani et al., Attention Is All You Need (2017), section 3.2; Ainslie et
    al., GQA (2023), section 2, for shared keys.
    """
    q, k, v = (as_operand(t, shapes.NAME) for t in (query, key, value))
    shapes.check(q, k, v, enable_gqa, dropout_p)
    mask = None if attn_mask is None else as_operand(attn_mask, shapes.NAME)
    scores = (*q.shape[:-1], k.shape[-2])
    bias = None if mask is None else shapes.as_bias(mask, scores, q)
    dtype = q._array.dtype
    if dtype.itemsize == 2:
        single = np.dtype(np.float32)
        q, k, v = (cast(t, single) for t in (q, k, v))
        bias = None if bias is None else cast(bias, single)
    factor = 1.0 / math.sqrt(max(1, q.shape[-1])) if scale is None else scale
    keep = keeps(dropout_p, scores)
    if tape.is_nested() or (bias is not None and bias._node is not None):
        out = plain_attention(q, k, v, bias, is_causal, factor, keep, 1.0 - dropout_p)
        return cast(out, dtype)
    scheme = Scheme(
        scale=factor,
        is_causal=is_causal,
        bias=None if bias is None else shapes.four_dims(bias._array, scores),
        keeps=keep,
        keep_prob=1.0 - dropout_p,
    )
    return cast(_fused(q, k, v, scheme), dtype)


def keeps(dropout_p: float, scores: tuple[int, ...]) -> Keeps | None:
    """Return what makes the mask of a tile: a function of its place alone."""
    if not dropout_p:
        return None
    stream = random.next_stream()
    heads, queries, keys = (1, *scores)[-3:] if len(scores) == 2 else scores[-3:]

    def kept(batch: int, head: int, rows: slice) -> NDArray[np.bool_]:
        first = (batch * heads + head) * queries
        start, stop = (first + rows.start) * keys, (first + rows.stop) * keys
        return stream.bernoulli(start, stop, 1.0 - dropout_p).reshape(-1, keys)

    return kept


def _fused(q: Tensor, k: Tensor, v: Tensor, scheme: Scheme) -> Tensor:
    heads: Heads = (
        shapes.heads_of(q._array),
        shapes.heads_of(k._array),
        shapes.heads_of(v._array),
    )
    out, saved = attend(heads, scheme)

    def vjp(g: Array) -> tuple[Array, Array, Array]:
        dq, dk, dv = (np.empty_like(part) for part in heads)
        upper = shapes.heads_of(g)
        kernels.attention_grads(upper, heads, scheme, saved, (dq, dk, dv))
        return dq.reshape(q.shape), dk.reshape(k.shape), dv.reshape(v.shape)

    shape = (*q._array.shape[:-1], v._array.shape[-1])
    return result(out.reshape(shape), (q, k, v), vjp)


def attend(heads: Heads, scheme: Scheme) -> tuple[Array, Array]:
    """Return attention, and what its sweep needs."""
    q, _, v = heads
    batch, num, queries, _ = q.shape
    # Heads lie side by side: to put them together again is then no copy.
    out = np.empty((batch, queries, num, v.shape[3]), q.dtype).transpose(0, 2, 1, 3)
    return out, kernels.attention(heads, scheme, out)
