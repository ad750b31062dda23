"""Run an elementwise kernel over long slices in blocks that stay in the cache.

Five passes over a block beat five passes over an array. This module also hands kernels
their numbers as 0-d arrays, and converts the element types that they do not compute in.
Blocks are cut at fixed places; elementwise kernels give the same bits wherever.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from parallel_params.optim.rule import state_dtype
from parallel_params.tensor.tape import Array

BLOCK_BYTES = 256 * 1024  # of one operand; 128 KiB to 512 KiB measured alike


@lru_cache(maxsize=256)
def fixed_scalars(dtype: np.dtype[np.generic], *values: float) -> tuple[Array, ...]:
    """Return `values` as 0-d arrays: a ufunc takes them faster than Python's floats.

    For values that stay from step to step; the others are not worth a cache.
    """
    scalars = tuple(np.array(value, dtype) for value in values)
    for scalar in scalars:
        scalar.flags.writeable = False
    return scalars


def run_blocks(
    kernel: Callable[..., None],
    weight: Array,
    gradient: Array,
    slots: Sequence[Array] = (),
    *,
    num_scratch: int = 1,
) -> None:
    """Call `kernel(weight, gradient, *slots, *scratch)` on one block after the other.

    Args:
        kernel: elementwise. Writes the weight, the slots and the scratch, never the
            gradient. All its arrays have one length and one type.
        weight: [n]; of `state_dtype(weight.dtype)`, or converted to it and back.
        gradient: [n]; converted where its type differs.
        slots: [n] each; converted and written back where their type differs.
        num_scratch: uninitialised arrays to hand over. Made per call and not kept:
            that costs less than a microsecond, and rules stay free of state.
    """
    dtype = state_dtype(weight.dtype)
    is_native = weight.dtype == dtype == gradient.dtype
    for slot in slots:
        is_native = is_native and slot.dtype == dtype
    call = kernel if is_native else _converting(kernel, dtype)
    numel, limit = weight.size, BLOCK_BYTES // dtype.itemsize
    scratch = [np.empty(min(numel, limit), dtype) for _ in range(num_scratch)]
    if numel <= limit:
        call(weight, gradient, *slots, *scratch)
        return
    for start in range(0, numel, limit):
        part = slice(start, min(start + limit, numel))
        call(
            weight[part],
            gradient[part],
            *[slot[part] for slot in slots],
            *[array[: part.stop - start] for array in scratch],
        )


def _converting(
    kernel: Callable[..., None], dtype: np.dtype[np.generic]
) -> Callable[..., None]:
    """Return `kernel` for arrays of other types: convert, compute, write back."""

    def call(weight: Array, gradient: Array, *rest: Array) -> None:
        arrays = (weight, *rest)
        own = [array.astype(dtype, copy=False) for array in arrays]
        kernel(own[0], gradient.astype(dtype, copy=False), *own[1:])
        for array, computed in zip(arrays, own, strict=True):
            if array is not computed:
                array[...] = computed.astype(array.dtype)

    return call
