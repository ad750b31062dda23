"""Attention within sequences, straight from the projections that lie side by side.

What layers use: nothing is taken apart or put together, forward or back.
"""

import math
from typing import TypeAlias

import numpy as np

from parallel_params.tensor import attention_kernels as kernels
from parallel_params.tensor import tape
from parallel_params.tensor.attention_tiles import Heads, Scheme
from parallel_params.tensor.ops.apply import cast, result
from parallel_params.tensor.ops.attention import (
    attend,
    keeps,
    scaled_dot_product_attention,
)
from parallel_params.tensor.ops.indexing import taken
from parallel_params.tensor.ops.rotary import rotated
from parallel_params.tensor.rotary_kernels import rotate
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

# Cosines and sines of the angles of every position, [positions, width / 2] each.
Turns: TypeAlias = tuple[Array, Array]


def self_attention(
    packed: Tensor,
    num_kv_heads: int,
    bias: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    turns: Turns | None = None,
) -> Tensor:
    """Return attention within sequences.

    Args:
        packed: [batch, positions, heads, width]: the heads of the queries, then those
            of the keys, then those of the values; of floating point.
        num_kv_heads: how many are the keys', and the values'.
        bias: [batch, heads of the queries, positions, positions] added to the scores,
            of the element type of `packed`; may be a broadcast view.
        dropout_p: chance of a probability to become zero, in [0, 1).
        is_causal: whether a position sees only itself and those before.
        turns: by which queries and keys are turned before; None for not at all.

    Returns:
        [batch, positions, heads of the queries, width].
    """
    dtype = packed._array.dtype
    if dtype.itemsize == 2:
        single = np.dtype(np.float32)
        wide = None if bias is None else bias.astype(single)
        x = cast(packed, single)
        found = self_attention(x, num_kv_heads, wide, dropout_p, is_causal, turns)
        return cast(found, dtype)
    num_turned = packed.shape[2] - num_kv_heads
    if tape.is_nested():
        return _plain(packed, num_kv_heads, bias, dropout_p, is_causal, turns)
    array = _turned(packed._array, num_turned, turns)
    batch, length, _, width = array.shape
    num = num_turned - num_kv_heads
    scheme = Scheme(
        scale=1.0 / math.sqrt(width),
        is_causal=is_causal,
        bias=bias,
        keeps=keeps(dropout_p, (batch, num, length, length)),
        keep_prob=1.0 - dropout_p,
    )
    out, saved = attend(_parts(array, num, num_turned), scheme)

    def vjp(g: Array) -> tuple[Array]:
        upper = g.transpose(0, 2, 1, 3)
        grad = np.empty(array.shape, array.dtype)
        heads, grads = (_parts(a, num, num_turned) for a in (array, grad))
        kernels.attention_grads(upper, heads, scheme, saved, grads)
        return (_turned_back(grad, num_turned, turns),)

    return result(out.transpose(0, 2, 1, 3), (packed,), vjp)


def _parts(whole: Array, num: int, num_turned: int) -> Heads:
    by_head = whole.transpose(0, 2, 1, 3)
    return by_head[:, :num], by_head[:, num:num_turned], by_head[:, num_turned:]


def _turned(array: Array, num_turned: int, turns: Turns | None) -> Array:
    """Return the projections with queries and keys turned; values as they are."""
    if turns is None:
        return array
    out = np.empty(array.shape, array.dtype)
    before, after = array[:, :, :num_turned], out[:, :, :num_turned]
    rotate(before, turns[0][:, None], turns[1][:, None], after)
    out[:, :, num_turned:] = array[:, :, num_turned:]
    return out


def _turned_back(grad: Array, num_turned: int, turns: Turns | None) -> Array:
    """Return the gradient of the projections before they were turned; in place."""
    if turns is not None:
        part = grad[:, :, :num_turned]
        rotate(part, turns[0][:, None], np.negative(turns[1])[:, None], part)
    return grad


def _plain(
    packed: Tensor,
    num_kv_heads: int,
    bias: Array | None,
    dropout_p: float,
    is_causal: bool,
    turns: Turns | None,
) -> Tensor:
    """The same out of single operators, each of which has its own second derivative."""
    x = packed.transpose(0, 2, 1, 3)
    everything = slice(None)
    num_turned = packed.shape[2] - num_kv_heads
    turning = taken(x, (everything, slice(0, num_turned)))
    if turns is not None:
        turning = rotated(turning, *turns)
    num = num_turned - num_kv_heads
    q = taken(turning, (everything, slice(0, num)))
    k = taken(turning, (everything, slice(num, None)))
    v = taken(x, (everything, slice(num_turned, None)))
    mask = None if bias is None else Tensor.wrap(bias)
    out = scaled_dot_product_attention(
        q, k, v, mask, dropout_p, is_causal, enable_gqa=True
    )
    return out.transpose(0, 2, 1, 3)
