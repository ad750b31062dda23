"""Joining tensors and taking them apart: concat, stack, split, unstack."""

import itertools
from collections.abc import Sequence

import numpy as np

from parallel_params.tensor.dtype import promote
from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.dims import as_dim
from parallel_params.tensor.ops.indexing import taken
from parallel_params.tensor.ops.shape import expand_dims, reshape
from parallel_params.tensor.ops.value import Value
from parallel_params.tensor.tensor import Tensor


def concat(tensors: Sequence[Operand], axis: int = 0) -> Tensor:
    """Return the tensors put one behind the other along `axis`.

    Raises:
        ValueError: there are none, or they differ in another dim.
    """
    parts = _alike(tensors, "concat")
    first = parts[0]._array.shape
    dim = as_dim(axis, len(first), "concat")
    stops = [0]
    for i, part in enumerate(parts):
        shape = part._array.shape
        if shape[:dim] + shape[dim + 1 :] != first[:dim] + first[dim + 1 :]:
            raise ValueError(
                f"concat: shapes {first} (tensor 0) and {shape} (tensor {i}) differ "
                f"outside of dim {dim}"
            )
        stops.append(stops[-1] + shape[dim])
    before = (slice(None),) * dim
    places = [
        (*before, slice(start, stop)) for start, stop in itertools.pairwise(stops)
    ]

    def grads(g: Value) -> tuple[Value, ...]:
        return tuple(g[place] for place in places)

    out = np.concatenate([part._array for part in parts], dim)
    return result(out, tuple(parts), grads, lambda g, *_: grads(g))


def stack(tensors: Sequence[Operand], axis: int = 0) -> Tensor:
    """Return the tensors put side by side along a new dim at `axis`.

    Raises:
        ValueError: there are none, or their shapes differ.
    """
    parts = _alike(tensors, "stack")
    for i, part in enumerate(parts):
        if part._array.shape != parts[0]._array.shape:
            raise ValueError(
                f"stack: shapes {parts[0].shape} (tensor 0) and {part.shape} (tensor "
                f"{i}) differ"
            )
    return concat([expand_dims(part, axis) for part in parts], axis)


def _alike(tensors: Sequence[Operand], operator: str) -> list[Tensor]:
    """Return the operands as tensors of one element type."""
    if not isinstance(tensors, list | tuple):
        raise TypeError(
            f"{operator} takes a list of tensors, not {type(tensors).__name__}"
        )
    if not tensors:
        raise ValueError(f"{operator} needs at least one tensor")
    parts = [as_operand(tensor, operator) for tensor in tensors]
    common = parts[0]._array.dtype
    for part in parts[1:]:
        common = promote(common, part._array.dtype)
    return [cast(part, common) for part in parts]


def split(
    tensor: Operand, split_size_or_sections: int | Sequence[int], axis: int = 0
) -> tuple[Tensor, ...]:
    """Return the parts of the tensor along `axis`; views where nothing is recorded.

    Args:
        tensor: what to split.
        split_size_or_sections: the length of every part but the last, which may be
            shorter; or the length of each.
        axis: the dim to cut.

    Raises:
        ValueError: lengths are not positive or do not add up to that of the dim.
    """
    a = as_operand(tensor, "split")
    dim = as_dim(axis, a._array.ndim, "split")
    length = a._array.shape[dim]
    if isinstance(split_size_or_sections, int):
        step = split_size_or_sections
        if step <= 0:
            raise ValueError(f"split: parts must be longer than 0, not {step}")
        lengths = [min(step, length - start) for start in range(0, length, step)]
    else:
        lengths = list(split_size_or_sections)
        if min(lengths, default=0) < 0 or sum(lengths) != length:
            raise ValueError(
                f"split: lengths {lengths} do not add up to {length}, the length of "
                f"dim {dim}"
            )
    before = (slice(None),) * dim
    parts, start = [], 0
    for n in lengths:
        parts.append(taken(a, (*before, slice(start, start + n))))
        start += n
    return tuple(parts)


def unstack(x: Operand, axis: int = 0) -> tuple[Tensor, ...]:
    """Return the parts of length 1 along `axis`, without that dim."""
    a = as_operand(x, "unstack")
    dim = as_dim(axis, a._array.ndim, "unstack")
    shape = a._array.shape
    rest = shape[:dim] + shape[dim + 1 :]
    return tuple(reshape(part, rest) for part in split(a, 1, dim)) if shape[dim] else ()
