"""Sums and means over dims."""

import numpy as np

from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.dims import Dims, as_dims, kept
from parallel_params.tensor.ops.value import Value, broadcast
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def sum(x: Operand, axis: Dims = None, keepdims: bool = False) -> Tensor:
    """Return the sum over `axis`; over all dims if that is None or ().

    Sums of booleans and small integers are int64.

    Raises:
        ValueError: a dim is out of range or named twice.
        TypeError: a dim is not an integer.
    """
    a = as_operand(x, "sum")
    array = a._array
    if array.dtype.kind in "biu" and array.itemsize < 8:
        return sum(cast(a, np.dtype(np.int64)), axis, keepdims)
    dims = as_dims(axis, array.ndim, "sum")
    out = _total(array, dims, keepdims)
    shape = array.shape
    return result(
        _as(out, array.dtype),
        (a,),
        lambda g: (spread(g, shape, dims),),
        lambda g, _, x: (spread(g, shape, dims),),
    )


def mean(x: Operand, axis: Dims = None, keepdims: bool = False) -> Tensor:
    """Return the mean over `axis`; over all dims if that is None or ().

    The mean of integers is an integer, rounded towards 0; the mean of nothing is nan.

    Raises:
        ValueError: a dim is out of range or named twice; the mean of no integers.
        TypeError: a dim is not an integer.
    """
    a = as_operand(x, "mean")
    array = a._array
    dims = as_dims(axis, array.ndim, "mean")
    shape, dtype = array.shape, array.dtype
    numel = count(shape, dims)
    if dtype.kind in "biu":
        return _integer_mean(a, dims, keepdims, numel)
    total = _total(array, dims, keepdims)
    out = _as(np.divide(total, np.asarray(numel, total.dtype)), dtype)
    share = np.asarray(1.0 / max(numel, 1), dtype)
    return result(
        out,
        (a,),
        lambda g: (spread(np.multiply(g, share), shape, dims),),
        lambda g, _, x: (spread(g * Tensor.wrap(share), shape, dims),),
    )


def _total(array: Array, dims: tuple[int, ...] | None, keepdims: bool) -> Array:
    """Add up; elements of 16 bits in float32, which the caller rounds."""
    wide = None
    if array.itemsize == 2 and array.dtype.kind not in "iu":
        wide = np.float32
    # NumPy's types have no keepdims that is a variable.
    out: Array = np.add.reduce(array, dims, wide, keepdims=keepdims)  # type: ignore[call-overload]
    return out


def _as(array: Array, dtype: "np.dtype[np.generic]") -> Array:
    return array if array.dtype == dtype else array.astype(dtype)


def count(shape: tuple[int, ...], dims: tuple[int, ...] | None) -> int:
    """Return how many elements a reduction over `dims` takes into one."""
    numel = 1
    for dim in range(len(shape)) if dims is None else dims:
        numel *= shape[dim]
    return numel


def spread(g: Value, shape: tuple[int, ...], dims: tuple[int, ...] | None) -> Value:
    """Repeat the gradient of a reduction over `dims` along them, back to `shape`."""
    if dims is not None:
        g = g.reshape(kept(shape, dims))
    elif g.shape:
        g = g.reshape(())
    return broadcast(g, shape)


def _integer_mean(
    x: Tensor, dims: tuple[int, ...] | None, keepdims: bool, numel: int
) -> Tensor:
    if not numel:
        raise ValueError(f"mean: no elements of {x.dtype} to take the mean of")
    array = x._array
    total = np.asarray(_total(array.astype(np.int64), dims, keepdims))
    out = np.sign(total) * (np.abs(total) // numel)
    shape, source = array.shape, array.dtype
    return result(
        np.asarray(out).astype(source),
        (x,),
        lambda g: (spread((g // numel).astype(source), shape, dims),),
    )
