"""Layer norm and RMS norm: every row brought to mean 0 and variance 1, or to size 1.

The sweep normalises the input again from two numbers a row instead of keeping a copy.
"""

import math

import numpy as np

from parallel_params.tensor import norm_kernels as kernels
from parallel_params.tensor import tape
from parallel_params.tensor.ops.apply import (
    Operand,
    as_operand,
    cast,
    check_type,
    result,
)
from parallel_params.tensor.ops.dims import Shape, as_shape
from parallel_params.tensor.ops.elementwise import sqrt, square
from parallel_params.tensor.ops.reduction import mean
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def layer_norm(
    input: Operand,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return (input - mean) / sqrt(variance + eps) * weight + bias over the last dims.

    Args:
        input: [..., *normalized_shape].
        normalized_shape: the last dims, over which mean and variance are taken.
        weight: of that shape and the input's element type; None for ones.
        bias: likewise; None for zeros.
        eps: added to the variance.

    Raises:
        TypeError: the elements are not floating point, or of several types.
        ValueError: shapes do not fit, or there is nothing to take a mean of.

    Source: Ba, Kiros and Hinton, Layer Normalization (2016), section 3.
    """
    return _norm("layer_norm", input, normalized_shape, weight, bias, eps)


def rms_norm(
    input: Operand,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Return input / sqrt(mean of its squares + eps) * weight over the last dims.

    Args:
        input: [..., *normalized_shape].
        normalized_shape: the last dims, over which the mean is taken.
        weight: of that shape and the input's element type; None for ones.
        eps: added to the mean.

    Raises:
        TypeError: the elements are not floating point, or of several types.
        ValueError: shapes do not fit, or there is nothing to take a mean of.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization (2019), section 3.
    """
    return _norm("rms_norm", input, normalized_shape, weight, None, eps)


def _norm(
    operator: str,
    input: Operand,
    normalized_shape: Shape,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    x = as_operand(input, operator)
    dims = _check(operator, x, as_shape(normalized_shape, operator), weight, bias, eps)
    dtype = x._array.dtype
    if dtype.itemsize == 2:
        single = np.dtype(np.float32)
        w, b = (None if t is None else cast(t, single) for t in (weight, bias))
        return cast(_norm(operator, cast(x, single), dims, w, b, eps), dtype)
    has_mean = operator == "layer_norm"
    if tape.is_nested():
        return _plain_norm(x, len(dims), weight, bias, eps, has_mean)
    return _fused_norm(x, dims, weight, bias, eps, has_mean)


def _fused_norm(
    x: Tensor,
    dims: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    has_mean: bool,
) -> Tensor:
    dtype = x._array.dtype
    rows = np.ascontiguousarray(x._array).reshape(-1, math.prod(dims))
    out = np.empty_like(rows)
    middle = np.empty(len(rows), dtype) if has_mean else None
    scale = np.empty(len(rows), dtype)
    factors = _flat(weight)
    kernels.norm(rows, factors, _flat(bias), eps, out, middle, scale)
    given = [t for t in (weight, bias) if t is not None]
    wants = [t is not None and t._node is not None for t in (x, weight, bias)]

    def vjp(g: Array) -> tuple[Array | None, ...]:
        grad = np.ascontiguousarray(g).reshape(rows.shape)
        dx = np.empty_like(rows) if wants[0] else None
        dw, db = (
            np.empty(rows.shape[1], dtype) if want else None for want in wants[1:]
        )
        kernels.norm_grads(grad, rows, factors, middle, scale, dx, dw, db)
        pairs = zip((dw, db), (weight, bias), strict=True)
        parts = [
            None if d is None else d.reshape(dims) for d, t in pairs if t is not None
        ]
        return None if dx is None else dx.reshape(g.shape), *parts

    return result(out.reshape(x._array.shape), (x, *given), vjp)


def _flat(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else np.ascontiguousarray(tensor._array).reshape(-1)


def _plain_norm(
    x: Tensor,
    num_dims: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    has_mean: bool,
) -> Tensor:
    """The same out of single operators, each of which has its own second derivative."""
    dims = tuple(range(-num_dims, 0))
    if has_mean:
        x = x - mean(x, dims, keepdims=True)
    out = x / sqrt(mean(square(x), dims, keepdims=True) + eps)
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias


def _check(
    operator: str,
    x: Tensor,
    dims: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[int, ...]:
    """Return the normalised dims."""
    shape = x._array.shape
    if not x.dtype.is_float:
        raise TypeError(f"{operator} takes floating-point elements, not {x.dtype}")
    if not dims or shape[len(shape) - len(dims) :] != dims:
        raise ValueError(
            f"{operator}: an input of shape {shape} does not end in normalized_shape "
            f"{dims}: the last {len(dims)} dims must be these"
        )
    if not math.prod(dims):
        raise ValueError(f"{operator}: normalized_shape {dims} has no elements")
    if not eps >= 0.0:
        raise ValueError(f"{operator}: eps must not be negative, as {eps} is")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        if tensor._array.shape != dims:
            raise ValueError(
                f"{operator}: {name} of shape {tensor._array.shape} does not fit "
                f"normalized_shape {dims}; the two must be the same"
            )
        check_type(operator, x, name, tensor)
    return dims
