"""Other arrangements of elements: pad, tile, repeat, flip."""

from collections.abc import Sequence

import numpy as np

from parallel_params.tensor.ops.apply import Operand, as_operand, result
from parallel_params.tensor.ops.dims import Dims, as_dim, as_dims, as_shape
from parallel_params.tensor.ops.indexing import taken
from parallel_params.tensor.ops.shape import broadcast_to, reshape
from parallel_params.tensor.tensor import Tensor


def pad(
    input_x: Operand,
    padding: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Tensor:
    """Return the tensor with elements put around it, or taken off.

    Args:
        input_x: of any shape.
        padding: two numbers per dim, the last dim first: in front of it and behind it;
            negative ones take elements off.
        mode: "constant".
        value: of the new elements; 0 by default.

    Raises:
        TypeError: a number is no integer.
        ValueError: there is no pair per dim, more pairs than dims, or nothing left of a
            dim.
    """
    x = as_operand(input_x, "pad")
    pairs = _pad_pairs(x._array.shape, padding)
    if mode != "constant":
        raise ValueError(f"pad: mode is 'constant', not {mode!r}")
    array = x._array
    shape = tuple(n + a + b for n, (a, b) in zip(array.shape, pairs, strict=True))
    out = np.full(shape, 0 if value is None else value, array.dtype)
    outer = tuple(
        slice(max(a, 0), n + a + min(b, 0))
        for n, (a, b) in zip(array.shape, pairs, strict=True)
    )
    inner = tuple(
        slice(max(-a, 0), n + min(b, 0))
        for n, (a, b) in zip(array.shape, pairs, strict=True)
    )
    out[outer] = array[inner]
    if inner == tuple(slice(0, n) for n in array.shape):
        return result(
            out, (x,), lambda g: (g[outer],), lambda g, *_: (taken(g, outer),)
        )
    back = [n for a, b in reversed(pairs) for n in (-a, -b)]
    return result(
        out,
        (x,),
        lambda g: (pad(Tensor.wrap(g), back)._array,),
        lambda g, *_: (pad(g, back),),
    )


def _pad_pairs(shape: tuple[int, ...], padding: Sequence[int]) -> list[tuple[int, int]]:
    """Return what is put in front of and behind every dim, the first dim first."""
    numbers = as_shape(padding, "pad")
    if len(numbers) % 2 or len(numbers) > 2 * len(shape):
        raise ValueError(
            f"pad: {len(numbers)} numbers for a tensor of shape {shape}; expected two "
            f"per dim, the last dim first, at most {2 * len(shape)}"
        )
    pairs = [(0, 0)] * (len(shape) - len(numbers) // 2)
    pairs += [(numbers[i], numbers[i + 1]) for i in range(len(numbers) - 2, -1, -2)]
    if any(n + a + b < 0 for n, (a, b) in zip(shape, pairs, strict=True)):
        raise ValueError(f"pad: {[*numbers]} takes more off than shape {shape} has")
    return pairs


def tile(input: Operand, dims: int | Sequence[int]) -> Tensor:
    """Return copies of the tensor put side by side, so many along every dim.

    Args:
        input: of any shape.
        dims: copies per dim, the last dim last; a tensor of fewer dims gets dims of
            length 1 in front.

    Raises:
        TypeError: a number is no integer.
        ValueError: a number is negative.
    """
    x = as_operand(input, "tile")
    times = as_shape(dims, "tile")
    if min(times, default=0) < 0:
        raise ValueError(f"tile: the copies per dim are at least 0, not {dims}")
    ndim = max(len(times), x.ndim)
    times = (1,) * (ndim - len(times)) + times
    lengths = (1,) * (ndim - x.ndim) + x.shape
    split = [n for length in lengths for n in (1, length)]
    wide = [n for pair in zip(times, lengths, strict=True) for n in pair]
    whole = [t * n for t, n in zip(times, lengths, strict=True)]
    return reshape(broadcast_to(reshape(x, split), wide), whole)


def repeat_interleave(input: Operand, repeats: int, axis: int | None = None) -> Tensor:
    """Return every element, or every slice along `axis`, so many times in a row.

    Args:
        input: of any shape; made one dim if `axis` is None.
        repeats: how often.
        axis: along which dim.

    Raises:
        TypeError: `repeats` is no int, or `axis` no integer.
        ValueError: `repeats` is negative, or `axis` out of range.
    """
    if type(repeats) is not int:
        raise TypeError(f"repeat_interleave: repeats is an int, not {repeats!r}")
    if repeats < 0:
        raise ValueError(f"repeat_interleave: repeats is at least 0, not {repeats}")
    x = as_operand(input, "repeat_interleave")
    if axis is None:
        x, axis = reshape(x, (x.size,)), 0
    dim = as_dim(axis, x.ndim, "repeat_interleave")
    before, length, behind = x.shape[:dim], x.shape[dim], x.shape[dim + 1 :]
    apart = reshape(x, (*before, length, 1, *behind))
    wide = broadcast_to(apart, (*before, length, repeats, *behind))
    return reshape(wide, (*before, length * repeats, *behind))


def flip(input: Operand, dims: Dims) -> Tensor:
    """Return the tensor with the elements along `dims` in reverse; None for all.

    Raises:
        TypeError: a dim is no integer.
        ValueError: a dim is out of range or named twice.
    """
    x = as_operand(input, "flip")
    turned = as_dims(dims, x.ndim, "flip")
    back, same = slice(None, None, -1), slice(None)
    out = taken(
        x,
        tuple(back if turned is None or i in turned else same for i in range(x.ndim)),
    )
    out._array = out._array.copy()  # a tensor of its own, which can be written to
    return out
