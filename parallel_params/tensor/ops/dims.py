"""Arguments that name dims or shapes, checked once and counted from the front."""

import operator as op
from collections.abc import Sequence
from typing import TypeAlias

Dims: TypeAlias = int | Sequence[int] | None
Shape: TypeAlias = int | Sequence[int]


def as_dims(axis: Dims, ndim: int, operator: str) -> tuple[int, ...] | None:
    """Return the dims that `axis` names; None for all of them.

    Raises:
        TypeError: a dim is not an integer.
        ValueError: a dim is out of range or named twice.
    """
    if axis is None:
        return None
    if not isinstance(axis, Sequence):
        return (as_dim(axis, ndim, operator),)
    if not axis:
        return None
    dims = tuple(as_dim(dim, ndim, operator) for dim in axis)
    if len(set(dims)) != len(dims):
        raise ValueError(f"{operator}: axis={axis} names a dim twice")
    return dims


def as_dim(axis: int, ndim: int, operator: str) -> int:
    """Return the dim that `axis` names, negative ones counted from the end.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is out of range.
    """
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(
            f"{operator}: axis must be an integer, not {type(axis).__name__}"
        )
    dim = op.index(axis)
    if not -ndim <= dim < ndim:
        # A 0-d tensor has no dims, but NumPy and MindSpore let 0 and -1 stand for none.
        raise ValueError(
            f"{operator}: axis {dim} is out of range for a tensor of {ndim} dims"
        )
    return dim + ndim if dim < 0 else dim


def kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    """Return `shape` with length 1 in each of `dims`."""
    return tuple(1 if i in dims else n for i, n in enumerate(shape))


def as_shape(shape: Shape, operator: str) -> tuple[int, ...]:
    """Return `shape` as a tuple of lengths; what lengths may be is for the caller.

    Raises:
        TypeError: it is not an integer or a sequence of integers.
    """
    if type(shape) is tuple and all(type(n) is int for n in shape):
        return shape
    lengths = shape if isinstance(shape, Sequence) else (shape,)
    for n in lengths:
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(
                f"{operator}: a shape is made of integers, not {type(n).__name__}"
            )
    return tuple(op.index(n) for n in lengths)
