"""What attention asks of its operands, and how they are brought to four dims."""

import math

import numpy as np

from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

NAME = "scaled_dot_product_attention"


def check(q: Tensor, k: Tensor, v: Tensor, enable_gqa: bool, dropout_p: float) -> None:
    """Raise unless query, key and value fit; names the dim that does not."""
    for name, t in (("query", q), ("key", k), ("value", v)):
        if not t.dtype.is_float:
            raise TypeError(f"{NAME} takes floating-point elements, not {t.dtype}")
        if t._array.dtype != q._array.dtype:
            raise TypeError(
                f"{NAME}: query is {q.dtype} and {name} {t.dtype}; they must have one "
                f"element type, convert one with astype()"
            )
        if t.ndim < 2 or t.ndim != q.ndim:
            raise ValueError(
                f"{NAME}: query of shape {q.shape} and {name} of shape {t.shape} must "
                f"both be [..., heads, positions, width]"
            )
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"{NAME}: dropout_p is a chance in [0, 1), not {dropout_p}")
    _same(q, k, -1, "width", "query", "key")
    _same(k, v, -2, "number of keys", "key", "value")
    for dim in range(-q.ndim, -3):
        _same(q, k, dim, "batch dim", "query", "key")
        _same(q, v, dim, "batch dim", "query", "value")
    if q.ndim > 2:
        _check_heads(q, k, v, enable_gqa)


def _same(a: Tensor, b: Tensor, dim: int, what: str, one: str, other: str) -> None:
    if a.shape[dim] != b.shape[dim]:
        raise ValueError(
            f"{NAME}: {one} of shape {a.shape} and {other} of shape {b.shape} differ "
            f"in the {what}, dim {dim}: {a.shape[dim]} and {b.shape[dim]}"
        )


def _check_heads(q: Tensor, k: Tensor, v: Tensor, enable_gqa: bool) -> None:
    _same(k, v, -3, "number of heads", "key", "value")
    heads, groups = q.shape[-3], k.shape[-3]
    if heads == groups:
        return
    if not enable_gqa:
        raise ValueError(
            f"{NAME}: query of shape {q.shape} has {heads} heads and key of shape "
            f"{k.shape} has {groups} (dim -3); pass enable_gqa=True to share keys"
        )
    if not groups or heads % groups:
        raise ValueError(
            f"{NAME}: {heads} heads of the query (shape {q.shape}) do not share the "
            f"{groups} of the key (shape {k.shape}) evenly"
        )


def as_bias(mask: Tensor, scores: tuple[int, ...], q: Tensor) -> Tensor:
    """Return a mask as numbers to add to scores of shape `scores`.

    Raises:
        TypeError: it holds neither booleans nor the query's element type.
        ValueError: it does not broadcast.
    """
    array = mask._array
    try:
        fits = np.broadcast_shapes(array.shape, scores) == scores
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{NAME}: attn_mask of shape {array.shape} does not broadcast to the "
            f"scores, which are {scores}: [..., heads, queries, keys]"
        )
    if array.dtype == np.bool_:
        bias = np.zeros(array.shape, q._array.dtype)
        bias[~array] = -np.inf
        return Tensor.wrap(bias)
    if array.dtype != q._array.dtype:
        raise TypeError(
            f"{NAME}: attn_mask holds booleans or the query's {q.dtype}, not "
            f"{mask.dtype}"
        )
    return mask


def four_dims(bias: Array, scores: tuple[int, ...]) -> Array:
    """Return a bias as a view [batch, heads, queries, keys]; strides of 0 repeat it."""
    if len(scores) == 4:
        return np.broadcast_to(bias, scores)
    if len(scores) < 4:
        return np.broadcast_to(bias, (1,) * (4 - len(scores)) + scores)
    whole = np.broadcast_to(bias, scores)
    return whole.reshape(math.prod(scores[:-3]), *scores[-3:])


def heads_of(array: Array) -> Array:
    """Return an operand as [batch, heads, positions, width], a view where it can be."""
    shape = array.shape
    if len(shape) < 4:
        array = array.reshape((1,) * (4 - len(shape)) + shape)
    elif len(shape) > 4:
        array = array.reshape(math.prod(shape[:-3]), *shape[-3:])
    # BLAS reads rows that lie anywhere, but not elements that do.
    itemsize = array.itemsize
    return array if array.strides[3] == itemsize else np.ascontiguousarray(array)
