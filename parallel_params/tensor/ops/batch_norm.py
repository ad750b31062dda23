"""Normalisation of channels: by moments of the batch, or by given ones.

Kernels are in `tensor/batch_norm_kernels.py`; a sweep that will be differentiated
itself gets the same numbers out of single operators.
"""

from dataclasses import dataclass

import numpy as np

from parallel_params.tensor import batch_norm_kernels as kernels
from parallel_params.tensor import tape
from parallel_params.tensor.ops.apply import (
    Operand,
    as_operand,
    cast,
    check_type,
    result,
)
from parallel_params.tensor.ops.elementwise import rsqrt
from parallel_params.tensor.ops.extreme import var
from parallel_params.tensor.ops.reduction import mean as mean_of
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Moments:
    """Of every channel of a batch.

    Attributes:
        mean: [C], float64.
        variance: [C], float64, of the population that the batch was drawn from: the sum
            of squares over count - 1.
        count: elements per channel.
    """

    mean: Array
    variance: Array
    count: int


def batch_norm(
    input_x: Operand,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias for every channel.

    Args:
        input_x: [N, C] or [N, C, ...].
        running_mean: [C]; the mean unless training. While training it is moved in
            place, to (1 - momentum) * running_mean + momentum * mean; None if there is
            nothing to move.
        running_var: [C], likewise; moved by the variance with count - 1 below.
        weight: [C], or None for ones.
        bias: [C], or None for zeros.
        training: whether mean and variance are the batch's own.
        momentum: how far the running numbers are moved.
        eps: keeps the root from zero.

    Returns:
        As `input_x`. No gradient goes to the running numbers.

    Raises:
        TypeError: the element types of input, weight and bias differ, other than a
            16-bit input's, or are not floating point.
        ValueError: the shapes do not fit, the batch is empty or has one element per
            channel while training, or there are no running numbers otherwise.
    """
    x = as_operand(input_x, "batch_norm")
    if training:
        out, found = normalise_batch(x, weight, bias, eps)
        for running, now in ((running_mean, found.mean), (running_var, found.variance)):
            if running is not None:
                array = running._array
                array[...] = (1.0 - momentum) * array + momentum * now
        return out
    if running_mean is None or running_var is None:
        raise ValueError(
            "batch_norm: running_mean and running_var are needed, or else training=True"
        )
    return normalise_by(x, running_mean, running_var, weight, bias, eps)


def normalise_batch(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    operator: str = "batch_norm",
) -> tuple[Tensor, Moments]:
    """Return x normalised by its own moments, scaled and shifted; and the moments.

    Raises:
        TypeError, ValueError: as `batch_norm`.
    """
    _check(operator, x, weight, bias)
    count = x.size // max(1, x.shape[1])
    if count < 2:
        raise ValueError(
            f"{operator}: input of shape {x.shape} has {count} elements per channel; "
            "its own variance needs at least 2"
        )
    wide = cast(x, np.dtype(np.float32)) if x._array.itemsize == 2 else x
    array = _three_dims(wide._array)
    mean, variance = kernels.moments(array)
    found = Moments(mean, variance * (count / (count - 1)), count)
    if tape.is_nested() or wide is not x:
        return cast(_plain(wide, None, weight, bias, eps), x._array.dtype), found
    # Squares that overflow make no number, and not the zero that is 1 / infinity.
    inverse = np.where(np.isinf(variance), np.nan, 1.0 / np.sqrt(variance + eps))
    scale = inverse if weight is None else inverse * weight._array
    shift = None if bias is None else bias._array
    out = kernels.normalise(array, mean, scale, shift)
    is_wanted = x._node is not None
    inputs = (x, *(t for t in (weight, bias) if t is not None))

    def vjp(g: Array) -> tuple[Array | None, ...]:
        grad = _three_dims(g)
        total, product = kernels.grad_sums(grad, array, mean)
        dx = None
        if is_wanted:
            slope = product * (inverse * inverse / count)
            dx = kernels.batch_grad(grad, array, mean, scale, total / count, slope)
            dx = dx.reshape(g.shape)
        return (dx, *_affine_grads(weight, bias, product * inverse, total))

    return result(out.reshape(x.shape), inputs, vjp), found


def normalise_by(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    operator: str = "batch_norm",
) -> Tensor:
    """Return x normalised by given moments [C], scaled and shifted.

    Raises:
        TypeError, ValueError: as `batch_norm`.
    """
    _check(operator, x, weight, bias, mean, variance)
    if tape.is_nested() or x._array.itemsize == 2:
        wide = cast(x, np.dtype(np.float32)) if x._array.itemsize == 2 else x
        moments = mean.detach(), variance.detach()
        return cast(_plain(wide, moments, weight, bias, eps), x._array.dtype)
    array, centre = _three_dims(x._array), mean._array.astype(np.float64)
    inverse = 1.0 / np.sqrt(variance._array.astype(np.float64) + eps)
    scale = inverse if weight is None else inverse * weight._array
    out = kernels.normalise(array, centre, scale, None if bias is None else bias._array)
    is_wanted = x._node is not None
    inputs = (x, *(t for t in (weight, bias) if t is not None))

    def vjp(g: Array) -> tuple[Array | None, ...]:
        grad = _three_dims(g)
        dx = None
        if is_wanted:
            dx = kernels.scaled(grad, scale).reshape(g.shape)
        if weight is None and bias is None:
            return (dx,)
        total, product = kernels.grad_sums(grad, array, centre)
        return (dx, *_affine_grads(weight, bias, product * inverse, total))

    return result(out.reshape(x.shape), inputs, vjp)


def _affine_grads(
    weight: Tensor | None, bias: Tensor | None, of_weight: Array, of_bias: Array
) -> list[Array]:
    pairs = ((weight, of_weight), (bias, of_bias))
    return [g.astype(t._array.dtype) for t, g in pairs if t is not None]


def _three_dims(array: Array) -> Array:
    num_samples, channels = array.shape[:2]
    width = array.size // max(1, num_samples * channels)
    return np.ascontiguousarray(array).reshape(num_samples, channels, width)


def _plain(
    x: Tensor,
    moments: tuple[Tensor, Tensor] | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """The same out of single operators, each of which has its own second derivative."""
    shape = (1, x.shape[1], *(1 for _ in x.shape[2:]))
    if moments is None:
        dims = (0, *range(2, x.ndim))
        mean = mean_of(x, dims, keepdims=True)
        variance = var(x, dims, keepdims=True)
    else:
        mean, variance = (m.astype(x.dtype).reshape(shape) for m in moments)
    out = (x - mean) * rsqrt(variance + eps)
    if weight is not None:
        out = out * weight.astype(x.dtype).reshape(shape)
    return out if bias is None else out + bias.astype(x.dtype).reshape(shape)


def _check(
    operator: str,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *moments: Tensor,
) -> None:
    if x.ndim < 2:
        raise ValueError(
            f"{operator}: the input is [N, C] or [N, C, ...], not of shape {x.shape}"
        )
    if not x.size:
        raise ValueError(f"{operator}: the batch is empty: its shape is {x.shape}")
    given = [t for t in (weight, bias, *moments) if t is not None]
    for tensor in given:
        if tensor.shape != (x.shape[1],):
            raise ValueError(
                f"{operator}: input of shape {x.shape} has C = {x.shape[1]} channels "
                f"(dim 1), which numbers of shape {tensor.shape} do not fit"
            )
    if not all(t.dtype.is_float for t in (x, *given)):
        found = ", ".join(str(t.dtype) for t in (x, *given))
        raise TypeError(f"{operator} takes floating-point elements, not {found}")
    # 16 bits become float32 first.
    factors = {"weight": weight, "bias": bias} if x._array.itemsize != 2 else {}
    for name, factor in factors.items():
        if factor is not None:
            check_type(operator, x, name, factor)
