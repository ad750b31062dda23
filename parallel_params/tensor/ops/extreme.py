"""Reductions that pick or spread: largest, smallest, where they are, variance."""

from collections.abc import Callable

import numpy as np

from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.arithmetic import sub
from parallel_params.tensor.ops.dims import Dims, as_dim, as_dims, kept
from parallel_params.tensor.ops.elementwise import as_float, root, square
from parallel_params.tensor.ops.indexing import gather_elements
from parallel_params.tensor.ops.reduction import count, mean, spread, sum
from parallel_params.tensor.ops.shape import squeeze
from parallel_params.tensor.ops.value import Value, like
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def amax(x: Operand, axis: Dims = None, keepdims: bool = False) -> Tensor:
    """Return the largest element along `axis`; equal ones share the gradient.

    What is no number counts as the largest, and as equal to another such.

    Raises:
        ValueError: there is no element, or a dim is out of range or named twice.
    """
    return _extreme(np.maximum, x, axis, keepdims, "max")


def amin(x: Operand, axis: Dims = None, keepdims: bool = False) -> Tensor:
    """Return the smallest element along `axis`; equal ones share the gradient.

    What is no number counts as the smallest, and as equal to another such.

    Raises:
        ValueError: there is no element, or a dim is out of range or named twice.
    """
    return _extreme(np.minimum, x, axis, keepdims, "min")


def _extreme(
    ufunc: np.ufunc, x: Operand, axis: Dims, keepdims: bool, operator: str
) -> Tensor:
    a = as_operand(x, operator)
    array = a._array
    dims = as_dims(axis, array.ndim, operator)
    if not count(array.shape, dims):
        raise ValueError(f"{operator}: a tensor of shape {array.shape} has no elements")
    out = np.asarray(ufunc.reduce(array, dims, keepdims=keepdims))
    shape = array.shape

    def grads(g: Value) -> tuple[Value]:
        top = out.reshape(kept(shape, dims) if dims is not None else (1,) * len(shape))
        hits = np.equal(array, top) | np.not_equal(array, array)
        total = np.maximum(np.add.reduce(hits, dims, np.int64, keepdims=True), 1)
        share = np.asarray(hits / total).astype(array.dtype)
        return (spread(g, shape, dims) * like(g, share),)

    return result(out, (a,), grads, lambda g, *_: grads(g))


def max(
    x: Operand, axis: int | None = None, keepdims: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the largest elements along `axis` and where they are, as MindSpore does.

    The gradient goes to the element at that place alone. Without an axis, the largest
    of all, which share the gradient, and 0.
    """
    return _with_place(np.argmax, amax, x, axis, keepdims, "max")


def min(
    x: Operand, axis: int | None = None, keepdims: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the smallest elements along `axis` and where they are, as MindSpore does.

    The gradient goes to the element at that place alone. Without an axis, the smallest
    of all, which share the gradient, and 0.
    """
    return _with_place(np.argmin, amin, x, axis, keepdims, "min")


def _with_place(
    search: Callable[..., Array],
    extreme: Callable[..., Tensor],
    x: Operand,
    axis: int | None,
    keepdims: bool,
    operator: str,
) -> tuple[Tensor, Tensor]:
    if axis is None:
        return extreme(x, None, keepdims), Tensor.wrap(np.zeros((), np.int64))
    a = as_operand(x, operator)
    places = _arg(search, a, axis, True, operator)
    largest = gather_elements(a, axis, places)
    if keepdims:
        return largest, places
    return squeeze(largest, axis), Tensor.wrap(places._array.squeeze(axis))


def argmax(x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return where the first largest element along `axis` is, as int64.

    Without an axis, its place in the tensor flattened in C order.
    """
    return _arg(np.argmax, x, axis, keepdims, "argmax")


def argmin(x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return where the first smallest element along `axis` is, as int64.

    Without an axis, its place in the tensor flattened in C order.
    """
    return _arg(np.argmin, x, axis, keepdims, "argmin")


def _arg(
    search: Callable[..., Array],
    x: Operand,
    axis: int | None,
    keepdims: bool,
    operator: str,
) -> Tensor:
    array = as_operand(x, operator)._array
    dim = None if axis is None else as_dim(axis, array.ndim, operator)
    if not count(array.shape, None if dim is None else (dim,)):
        raise ValueError(f"{operator}: a tensor of shape {array.shape} has no elements")
    return Tensor.wrap(np.asarray(search(array, dim, keepdims=keepdims)))


def var(x: Operand, axis: Dims = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Return the mean square distance from the mean along `axis`.

    Args:
        x: integers count as float32.
        axis: the dims to take it over; None for all.
        ddof: what to divide by is the number of elements minus this.
        keepdims: keep those dims, with length 1.
    """
    a = as_float(x, "var")
    if a._array.itemsize == 2:
        return cast(
            var(cast(a, np.dtype(np.float32)), axis, ddof, keepdims), a._array.dtype
        )
    dims = as_dims(axis, a._array.ndim, "var")
    numel = count(a._array.shape, dims)
    squares = sum(square(sub(a, mean(a, dims, True))), dims, keepdims)
    rest = float(numel - ddof)
    return squares * (1.0 / rest if rest > 0 else float("nan"))


def std(x: Operand, axis: Dims = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Return the square root of `var`; its derivative is 0 where all are equal."""
    a = as_float(x, "std")
    if a._array.itemsize == 2:
        return cast(
            std(cast(a, np.dtype(np.float32)), axis, ddof, keepdims), a._array.dtype
        )
    return root(var(a, axis, ddof, keepdims))
