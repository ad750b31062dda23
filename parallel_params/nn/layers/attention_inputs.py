"""What `MultiheadAttention` is given, brought to one form: batch first, masks added."""

from typing import TypeAlias

import numpy as np

from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

# Shape of a mask -> that in which it broadcasts to the scores.
Places: TypeAlias = dict[tuple[int, ...], tuple[int, ...]]


def batch_first(x: Tensor, name: str, width: int, is_batch_first: bool) -> Tensor:
    """Return [batch, positions, width], whichever way `x` came.

    Raises:
        ValueError: it has other dims, or another width.
    """
    shape = x.shape
    if len(shape) not in (2, 3) or shape[-1] != width:
        dims = "[batch, positions" if is_batch_first else "[positions, batch"
        raise ValueError(
            f"MultiheadAttention: {name} must be {dims}, {width}], or [positions, "
            f"{width}] for one sequence; its shape is {shape}"
        )
    if len(shape) == 2:
        return x.reshape((1, *shape))
    return x if is_batch_first else x.swapaxes(0, 1)


def as_given(x: Tensor, like: Tensor, is_batch_first: bool) -> Tensor:
    """Return a result in the form in which the query came."""
    if like.ndim == 2:
        return x.reshape(x.shape[1:])
    return x if is_batch_first else x.swapaxes(0, 1)


def as_bias(
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    query: Tensor,
    key: Tensor,
    num_heads: int,
) -> Tensor | None:
    """Return both masks as numbers to add to [batch, heads, queries, keys] scores.

    Args:
        key_padding_mask: [batch, keys], or [keys]; booleans say what is hidden.
        attn_mask: [queries, keys] or [batch * heads, queries, keys]; likewise.
        query: [batch, queries, width].
        key: [batch, keys, width].
        num_heads: of the query.

    Raises:
        ValueError: a mask has another shape.
    """
    batch, queries, keys = query.shape[0], query.shape[1], key.shape[1]
    found = None
    if attn_mask is not None:
        by_head = (batch, num_heads, queries, keys)
        places: Places = {
            (queries, keys): (1, 1, queries, keys),
            (batch * num_heads, queries, keys): by_head,
        }
        found = _added("attn_mask", attn_mask, places, query)
    if key_padding_mask is not None:
        places = {(batch, keys): (batch, 1, 1, keys)}
        if batch == 1:
            places[(keys,)] = (1, 1, 1, keys)
        padding = _added("key_padding_mask", key_padding_mask, places, query)
        found = padding if found is None else found + padding
    return found


def _added(
    name: str,
    mask: Tensor,
    places: Places,
    query: Tensor,
) -> Tensor:
    if mask.shape not in places:
        known = " or ".join(map(str, places))
        raise ValueError(
            f"MultiheadAttention: {name} of shape {mask.shape} does not fit, it must "
            f"be {known}"
        )
    if mask.asnumpy().dtype == np.bool_:
        bias: Array = np.zeros(mask.shape, query.asnumpy().dtype)
        bias[mask.asnumpy()] = -np.inf
        mask = Tensor.wrap(bias)
    return mask.reshape(places[mask.shape])
