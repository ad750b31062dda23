"""New tensors: zeros, ones, full, ranges, one-hot rows. Nothing here is on the tape."""

import numpy as np

from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.dtype import DType
from parallel_params.tensor.ops.apply import Operand, as_operand
from parallel_params.tensor.ops.dims import Shape, as_shape
from parallel_params.tensor.tensor import Scalar, Tensor


def zeros(size: Shape, dtype: DType | None = None) -> Tensor:
    """Return a tensor of zeros; float32 by default."""
    return full(size, 0, dtype or dtypes.float32)


def ones(size: Shape, dtype: DType | None = None) -> Tensor:
    """Return a tensor of ones; float32 by default."""
    return full(size, 1, dtype or dtypes.float32)


def full(size: Shape, fill_value: Scalar, dtype: DType | None = None) -> Tensor:
    """Return a tensor of one number; int64, float32 or bool by default, as that is.

    Raises:
        ValueError: a length is negative.
        TypeError: the shape is not made of integers.
    """
    shape = as_shape(size, "full")
    if any(n < 0 for n in shape):
        raise ValueError(f"full: a shape has no negative lengths, as {shape} does")
    kind = Tensor(fill_value).dtype if dtype is None else dtype
    return Tensor.wrap(np.full(shape, fill_value, kind.numpy))


def zeros_like(x: Operand, dtype: DType | None = None) -> Tensor:
    """Return zeros of the shape and element type of `x`."""
    return full_like(x, 0, dtype)


def ones_like(x: Operand, dtype: DType | None = None) -> Tensor:
    """Return ones of the shape and element type of `x`."""
    return full_like(x, 1, dtype)


def full_like(x: Operand, fill_value: Scalar, dtype: DType | None = None) -> Tensor:
    """Return one number in the shape and element type of `x`."""
    like = as_operand(x, "full_like")
    return full(like.shape, fill_value, dtype or like.dtype)


def arange(
    start: Scalar = 0,
    end: Scalar | None = None,
    step: Scalar = 1,
    dtype: DType | None = None,
) -> Tensor:
    """Return the numbers from `start` in steps to below `end`; from 0 if one is given.

    Integers are int64, others float32, by default.

    Raises:
        ValueError: `step` is 0.
    """
    if end is None:
        start, end = 0, start
    if step == 0:
        raise ValueError("arange: step must not be 0")
    array = np.arange(start, end, step)
    if dtype is None:
        dtype = dtypes.float32 if array.dtype.kind == "f" else dtypes.int64
    return Tensor.wrap(array.astype(dtype.numpy, copy=False))


def eye(n: int, m: int | None = None, dtype: DType | None = None) -> Tensor:
    """Return [n, m] with ones on the diagonal; square and float32 by default."""
    return Tensor.wrap(np.eye(n, m, dtype=(dtype or dtypes.float32).numpy))


def one_hot(
    indices: Operand, depth: int, on_value: Scalar = 1.0, off_value: Scalar = 0.0
) -> Tensor:
    """Return [..., depth] with `on_value` at each index and `off_value` elsewhere.

    An index out of [0, depth) gives a row without `on_value`, as in MindSpore.

    Raises:
        TypeError: the indices are not integers.
    """
    array = as_operand(indices, "one_hot")._array
    if array.dtype.kind not in "iu":
        raise TypeError(f"one_hot: indices must be integers, not {array.dtype.name}")
    hot = np.equal(array[..., None], np.arange(depth))
    kind = Tensor(on_value).dtype.numpy
    return Tensor.wrap(np.where(hot, kind.type(on_value), kind.type(off_value)))
