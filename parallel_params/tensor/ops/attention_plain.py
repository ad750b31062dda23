"""Attention out of single operators, each of which has its own second derivative."""

import numpy as np

from parallel_params.tensor.attention_tiles import Keeps
from parallel_params.tensor.ops.compare import where
from parallel_params.tensor.ops.dropout import masked
from parallel_params.tensor.ops.matmul import matmul
from parallel_params.tensor.ops.softmax import softmax
from parallel_params.tensor.tensor import Tensor


def probabilities(
    q: Tensor,
    k: Tensor,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
) -> Tensor:
    """Return softmax(q k^T * scale + bias), zeros for a query that sees no key.

    Args:
        q: [..., heads, queries, width], or without heads.
        k: [..., groups, keys, width], or without groups.
        bias: broadcasts to the scores.
        is_causal: whether query i sees only the keys 0 to i.
        scale: what scores are multiplied by.

    Returns:
        [..., heads, queries, keys].
    """
    shape = (*q.shape[:-1], k.shape[-2])
    scores = matmul(_grouped(q, k), k.swapaxes(-1, -2)).reshape(shape) * scale
    hidden = np.zeros(shape[-2:], np.bool_)
    if is_causal:
        hidden = np.triu(np.ones_like(hidden), 1)
        future = np.zeros(hidden.shape, q._array.dtype)
        future[hidden] = -np.inf
        scores = scores + Tensor.wrap(future)
    if bias is not None:
        scores = scores + bias
        hidden = hidden | np.isneginf(bias._array)
    is_blind = np.broadcast_to(hidden.all(-1, keepdims=True), (*shape[:-1], 1))
    if not is_blind.any():
        return softmax(scores)
    # The softmax of nothing but -inf is nan, and so would be its derivative.
    blind = Tensor.wrap(np.ascontiguousarray(is_blind))
    return where(blind, 0.0, softmax(where(blind, 0.0, scores)))


def plain_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
    keep: Keeps | None,
    keep_prob: float,
) -> Tensor:
    """Return what `scaled_dot_product_attention` promises, out of single operators."""
    p = probabilities(q, k, bias, is_causal, scale)
    if keep is not None:
        queries, keys = p.shape[-2:]
        heads = p.shape[-3] if p.ndim > 2 else 1
        num = p.size // max(1, heads * queries * keys)
        rows = slice(0, queries)
        parts = [keep(b, h, rows) for b in range(num) for h in range(heads)]
        kept = np.concatenate(parts) if parts else np.zeros(0, np.bool_)
        p = masked(p, kept.reshape(p.shape), 1.0 / keep_prob)
    return weighted(p, v)


def weighted(p: Tensor, v: Tensor) -> Tensor:
    """Return the sums of values that every query weighs by its probabilities."""
    return matmul(_grouped(p, v), v).reshape((*p.shape[:-1], v.shape[-1]))


def _grouped(x: Tensor, k: Tensor) -> Tensor:
    """Put the queries of the heads that share a key below each other."""
    if x.ndim < 3 or x.shape[-3] == k.shape[-3]:
        return x
    heads, queries, width = x.shape[-3:]
    groups = k.shape[-3]
    return x.reshape((*x.shape[:-3], groups, heads // groups * queries, width))
