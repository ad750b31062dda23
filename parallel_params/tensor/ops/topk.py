"""The k largest or smallest elements along a dim."""

import operator as op

import numpy as np

from parallel_params.tensor.ops.apply import Operand, as_operand
from parallel_params.tensor.ops.dims import as_dim
from parallel_params.tensor.ops.indexing import gather_elements
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def topk(
    input: Operand,
    k: int,
    dim: int | None = None,
    largest: bool = True,
    sorted: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the `k` largest elements along `dim`, and where they are.

    Of equal elements the first come first; what is no number counts as the largest.

    Args:
        input: at least 1-d.
        k: how many, at most the length of `dim`.
        dim: None for the last.
        largest: or the smallest.
        sorted: they always are; MindSpore asks for it.

    Returns:
        The elements, which gradients go through, and their places as int64; both of the
        input's shape with length `k` at `dim`.

    Raises:
        TypeError: `k` or `dim` is no integer.
        ValueError: `dim` is out of range, or `k` does not lie in [0, length of `dim`].
    """
    a = as_operand(input, "topk")
    axis = as_dim(-1 if dim is None else dim, a._array.ndim, "topk")
    if isinstance(k, bool) or not hasattr(k, "__index__"):
        raise TypeError(f"topk: k must be an integer, not {type(k).__name__}")
    length = a._array.shape[axis]
    if not 0 <= op.index(k) <= length:
        raise ValueError(
            f"topk: k = {k} does not lie in [0, {length}], the length of dim {axis} of "
            f"shape {a._array.shape}"
        )
    order = _descending(a._array, axis) if largest else _ascending(a._array, axis)
    places = Tensor.wrap(np.ascontiguousarray(order.take(range(op.index(k)), axis)))
    return gather_elements(a, axis, places), places


def _ascending(array: Array, dim: int) -> Array:
    if array.dtype.kind == "V":  # NumPy cannot tell where a bfloat16 is no number
        array = array.astype(np.float32)
    return np.argsort(array, dim, kind="stable").astype(np.int64, copy=False)


def _descending(array: Array, dim: int) -> Array:
    # From the back twice: a stable order backwards would have the last of equals first.
    order = _ascending(np.flip(array, dim), dim)
    places: Array = array.shape[dim] - 1 - np.flip(order, dim)
    return places
