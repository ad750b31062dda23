"""Other arrangements of elements: pad."""

from collections.abc import Sequence

import numpy as np

from parallel_params.tensor.ops.apply import Operand, as_operand, result
from parallel_params.tensor.ops.dims import as_shape
from parallel_params.tensor.ops.indexing import taken
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
