"""Sums along dims in other forms: running sums, sums of exponentials, norms."""

import numpy as np

from parallel_params.tensor.dtype import dtype_of
from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.arrange import flip
from parallel_params.tensor.ops.dims import Dims, as_dim, as_dims
from parallel_params.tensor.ops.elementwise import (
    abs,
    exp,
    log,
    root,
    square,
    zeros_of,
)
from parallel_params.tensor.ops.extreme import amax
from parallel_params.tensor.ops.reduction import sum
from parallel_params.tensor.ops.shape import squeeze
from parallel_params.tensor.tape import Array, is_nested
from parallel_params.tensor.tensor import Tensor


def cumsum(x: Operand, axis: int) -> Tensor:
    """Return the sums of all elements up to each one along `axis`.

    Elements of floating point are added up in float64, and rounded at the end.

    Raises:
        TypeError: `axis` is no integer.
        ValueError: it is out of range.
    """
    a = as_operand(x, "cumsum")
    dim = as_dim(axis, a.ndim, "cumsum")

    return result(
        _running(a._array, dim),
        (a,),
        lambda g: (np.flip(_running(np.flip(g, dim), dim), dim),),
        lambda g, *_: (flip(cumsum(flip(g, dim), dim), dim),),
    )


def _running(array: Array, dim: int) -> Array:
    wide = np.float64 if dtype_of(array.dtype).is_float else array.dtype
    sums: Array = np.cumsum(array, dim, wide)
    return sums.astype(array.dtype, copy=False)


def logsumexp(input: Operand, axis: Dims = None, keep_dims: bool = False) -> Tensor:
    """Return log(sum(exp(x))) over `axis`, None for all, without overflow.

    Raises:
        TypeError: the elements are not floating point.
        ValueError: `axis` is out of range, or there is no element.
    """
    x = as_operand(input, "logsumexp")
    if not x.dtype.is_float:
        raise TypeError(f"logsumexp takes floating-point elements, not {x.dtype}")
    largest = amax(x, axis, keepdims=True)._array.copy()
    # Where it is infinite so is the result, and inf - inf would be no number.
    largest[~np.isfinite(largest)] = 0
    top = Tensor.wrap(largest)
    out = log(sum(exp(x - top), axis, keepdims=True)) + top
    if keep_dims:
        return out
    return squeeze(out, tuple(range(x.ndim)) if axis is None else axis)


def norm(
    A: Operand,  # noqa: N803 - MindSpore's name
    ord: float | None = None,
    dim: Dims = None,
    keepdim: bool = False,
) -> Tensor:
    """Return the norm of the vectors along `dim`; of all elements if that is None.

    Args:
        A: of floating point.
        ord: 2 or None for the root of the sum of squares, whose derivative at 0 is 0; 1
            for the sum of absolute values, infinity for the largest one.
        dim: the dims that make a vector.
        keepdim: keep those dims, with length 1.

    Raises:
        TypeError: the elements are not floating point.
        ValueError: another order, or a dim out of range.
    """
    x = as_operand(A, "norm")
    if not x.dtype.is_float:
        raise TypeError(f"norm takes floating-point elements, not {x.dtype}")
    if x._array.itemsize == 2:
        return cast(
            norm(cast(x, np.dtype(np.float32)), ord, dim, keepdim), x._array.dtype
        )
    if ord is None or ord == 2:
        return _euclidean(x, as_dims(dim, x.ndim, "norm"), keepdim)
    if ord == 1:
        return sum(abs(x), dim, keepdim)
    if ord == float("inf"):
        return amax(abs(x), dim, keepdims=keepdim)
    raise ValueError(f"norm: ord is 1, 2, infinity or None, not {ord!r}")


def _euclidean(x: Tensor, dims: tuple[int, ...] | None, keepdim: bool) -> Tensor:
    """The direction of x is made by one division: squares may overflow."""
    if is_nested():
        return root(sum(square(x), dims, keepdim))
    array = x._array
    length: Array = np.sqrt(np.add.reduce(np.square(array), dims, keepdims=True))

    def back(g: Array) -> tuple[Array]:
        direction = array / (length + zeros_of(length))
        return (direction * g.reshape(length.shape),)

    return result(length if keepdim else np.squeeze(length, dims), (x,), back)
