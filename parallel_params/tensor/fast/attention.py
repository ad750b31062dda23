"""The fast forms of attention: small heads to loops, the others to NumPy's tiles.

Loops take heads of whole vectors whose keys and values stay in the cache, without bias
and dropout.
"""

import numpy as np

from parallel_params.tensor import attention_kernels
from parallel_params.tensor.attention_tiles import Heads, Scheme
from parallel_params.tensor.fast import attention_bands as bands
from parallel_params.tensor.fast import attention_loops as loops
from parallel_params.tensor.fast.scratch import matrix
from parallel_params.tensor.fast.vectors import VECTOR_BYTES
from parallel_params.tensor.kernels import BLOCK
from parallel_params.tensor.tape import Array


def attention(heads: Heads, scheme: Scheme, out: Array) -> Array:
    """Write attention of every head."""
    if not _fits(heads, scheme, out):
        return attention_kernels.attention.numpy(heads, scheme, out)
    q, k, v = heads
    batch, num, queries, width = q.shape
    sizes, table = _sizes(heads, scheme), _bands(heads, scheme)
    is_kept = bool(sizes[bands.IS_KEPT])
    kept = int(table[:, bands.NUM] @ table[:, bands.STRIDE]) if is_kept else queries
    saved = np.empty((batch * num, kept), q.dtype)
    loops.attend(
        _places((*heads, out)),
        table,
        sizes,
        q.dtype.type(scheme.scale),
        saved,
        matrix(width, k.shape[2], q.dtype),
        matrix(k.shape[2], v.shape[3], q.dtype),
        _room(table, q.dtype),
    )
    return saved if is_kept else saved.reshape(batch, num, queries)


def attention_grads(
    g: Array, heads: Heads, scheme: Scheme, saved: Array, grads: Heads
) -> None:
    """Write the gradients of attention."""
    # Probabilities that were kept in bands are two dims, those of tiles are one.
    is_ours = saved.ndim == 2 or (saved.ndim == 3 and _fits(heads, scheme, g))
    if not is_ours:
        attention_kernels.attention_grads.numpy(g, heads, scheme, saved, grads)
        return
    q, k, v = heads
    dtype = q.dtype
    keys, width, value_width = *k.shape[2:], v.shape[3]
    table = _bands(heads, scheme)
    wants = [part if _has_rows(part) else np.empty(part.shape, dtype) for part in grads]
    g = g if _has_rows(g) else np.ascontiguousarray(g)
    loops.attend_back(
        _places((*heads, g, *wants)),
        table,
        _sizes(heads, scheme),
        dtype.type(scheme.scale),
        saved.reshape(q.shape[0] * q.shape[1], -1),
        matrix(value_width, keys, dtype),
        matrix(width, keys, dtype),
        matrix(bands.BAND, width, dtype),
        matrix(keys, width, dtype),
        matrix(bands.BAND, value_width, dtype),
        _room(table, dtype),
        _room(table, dtype),
    )
    for part, want in zip(grads, wants, strict=True):
        if part is not want:
            np.copyto(part, want)


def _has_rows(array: Array) -> bool:
    return bool(array.strides[3] == array.itemsize)


def _fits(heads: Heads, scheme: Scheme, out: Array) -> bool:
    q, k, v = heads
    if scheme.bias is not None or scheme.keeps is not None or not scheme.scale >= 0:
        return False
    if q.dtype.char not in "fd" or not q.dtype.isnative or not q.size * v.size:
        return False
    vector, widest = VECTOR_BYTES // q.itemsize, max(q.shape[3], v.shape[3])
    if q.shape[3] % vector or v.shape[3] % vector or k.shape[2] * widest > BLOCK // 2:
        return False
    return all(_has_rows(part) for part in (*heads, out))


def _sizes(heads: Heads, scheme: Scheme) -> Array:
    q, k, v = heads
    (batch, num, queries, width), (groups, keys) = q.shape, k.shape[1:3]
    is_kept = queries * keys <= BLOCK // 2
    return np.array(
        (
            batch,
            num,
            num // groups,
            keys,
            width,
            v.shape[3],
            scheme.is_causal,
            is_kept,
        ),
        np.int64,
    )


def _bands(heads: Heads, scheme: Scheme) -> Array:
    """Return what loops know of each band, see there."""
    queries, keys = heads[0].shape[2], heads[1].shape[2]
    vector = VECTOR_BYTES // heads[0].itemsize
    found = []
    for first in range(0, queries, bands.BAND):
        last = min(first + bands.BAND, queries)
        stop = min(last, keys) if scheme.is_causal else keys
        found.append((first, last - first, stop, -(-stop // vector) * vector))
    return np.array(found, np.int64)


def _places(arrays: tuple[Array, ...]) -> Array:
    """Return addresses and strides; the arrays must outlive them."""
    return np.array(
        [(a.__array_interface__["data"][0], *a.strides[:3]) for a in arrays], np.int64
    )


def _room(table: Array, dtype: "np.dtype[np.generic]") -> Array:
    """Return memory for the scores of a band."""
    return np.empty(bands.BAND * int(table[-1, bands.STRIDE]), dtype)
