"""Activations: relu, tanh, sigmoid, gelu ..., and in-place forms to fuse them."""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np

from parallel_params.tensor import activation_kernels, kernels, tape
from parallel_params.tensor.erf import erf_gelu
from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.elementwise import as_float, erf
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

# gradient of an activation's result -> gradient of its input
Slope: TypeAlias = Callable[[Array], Array]
Approximation: TypeAlias = Literal["none", "tanh"]


def relu(x: Operand) -> Tensor:
    """Return max(x, 0). The derivative at 0 is 0."""
    a = as_operand(x, "relu")
    array = np.ascontiguousarray(a._array)
    out = np.empty_like(array)
    kernels.relu(array, out)
    out = out.reshape(a._array.shape)  # ascontiguousarray makes 0-d 1-d
    return result(out, (a,), lambda g: (kernels.relu_slope(out, g),), _relu_higher)


def _times(slope: Array, g: Array) -> Array:
    """Multiply, in the memory of `slope`."""
    out: Array = np.asarray(slope)
    np.multiply(out, g, out)
    return out


def _relu_higher(g: Tensor, out: Tensor, x: Tensor) -> tuple[Tensor]:
    mask = np.not_equal(out._array, np.asarray(0, out._array.dtype))
    return (g * Tensor.wrap(mask.astype(out._array.dtype)),)


def tanh(x: Operand) -> Tensor:
    """Return the hyperbolic tangent."""
    a = as_float(x, "tanh")
    out = np.tanh(a._array)
    return result(out, (a,), lambda g: (_tanh_slope(out, g),), _tanh_higher)


def _tanh_slope(out: Array, g: Array) -> Array:
    slope = np.asarray(np.multiply(out, out))
    np.subtract(np.asarray(1, out.dtype), slope, slope)
    return _times(slope, g)


def _tanh_higher(g: Tensor, out: Tensor, _: Tensor) -> tuple[Tensor]:
    return (g * (1.0 - out * out),)


def sigmoid(x: Operand) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    a = as_float(x, "sigmoid")
    if a._array.itemsize == 2:
        return cast(sigmoid(cast(a, np.dtype(np.float32))), a._array.dtype)
    out = _sigmoid(a._array)
    return result(out, (a,), lambda g: (_sigmoid_slope(out, g),), _sigmoid_higher)


def _sigmoid_slope(out: Array, g: Array) -> Array:
    slope = np.asarray(np.subtract(np.asarray(1, out.dtype), out))
    np.multiply(slope, out, slope)
    return _times(slope, g)


def _sigmoid_higher(g: Tensor, out: Tensor, _: Tensor) -> tuple[Tensor]:
    return (g * (out * (1.0 - out)),)


def gelu(x: Operand, approximate: Approximation = "none") -> Tensor:
    """Return x times the chance that N(0, 1) is below x.

    Args:
        x: integers count as float32.
        approximate: "none", by the error function; or "tanh", which is off by less than
            5e-4 and half the price.

    Raises:
        ValueError: `approximate` is something else.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units (2016), section 2.
    """
    if approximate not in get_args(Approximation):
        raise ValueError(
            f"gelu: approximate is one of {get_args(Approximation)}, "
            f"not {approximate!r}"
        )
    a = as_float(x, "gelu")
    if a._array.itemsize == 2:
        wide = cast(a, np.dtype(np.float32))
        return cast(gelu(wide, approximate), a._array.dtype)
    if approximate == "none":
        return _erf_gelu(a)
    return _tanh_gelu(a)


def _erf_gelu(a: Tensor) -> Tensor:
    if tape.is_nested():
        return a * (0.5 * (1.0 + erf(a * math.sqrt(0.5))))
    return _with_slope(a, erf_gelu)


def _tanh_gelu(a: Tensor) -> Tensor:
    if tape.is_nested():
        cubic = a * a * a * kernels.GELU_CUBIC
        return a * 0.5 * (1.0 + tanh((a + cubic) * kernels.SQRT_2_OVER_PI))
    return _with_slope(a, kernels.gelu)


def _with_slope(
    a: Tensor, kernel: Callable[[Array, Array, Array | None], None]
) -> Tensor:
    """Apply a kernel that makes the derivative in forward."""
    array = np.ascontiguousarray(a._array)
    out = np.empty_like(array)
    slope = np.empty_like(array)  # costs nothing until it is written to
    kernel(array, out, None if a._node is None else slope)
    shape = a._array.shape
    return result(
        out.reshape(shape),
        (a,),
        lambda g: (_times(slope, g.reshape(array.shape)).reshape(shape),),
    )


def silu(x: Operand) -> Tensor:
    """Return x * sigmoid(x)."""
    a = as_float(x, "silu")
    if a._array.itemsize == 2:
        return cast(silu(cast(a, np.dtype(np.float32))), a._array.dtype)
    if tape.is_nested():
        return a * sigmoid(a)
    return _with_slope(a, activation_kernels.silu)


def softplus(x: Operand) -> Tensor:
    """Return log(1 + exp(x)), without overflow."""
    a = as_float(x, "softplus")
    if a._array.itemsize == 2:
        return cast(softplus(cast(a, np.dtype(np.float32))), a._array.dtype)
    array = a._array
    zero = np.asarray(0, array.dtype)
    return result(
        np.logaddexp(array, zero),
        (a,),
        lambda g: (np.multiply(g, _sigmoid(array)),),
        lambda g, _, x: (g * sigmoid(x),),
    )


def _sigmoid(x: Array) -> Array:
    out = np.empty_like(x)
    kernels.sigmoid(x, out)
    return out


def _fused_relu(out: Array, bias: Array | None, is_wanted: bool) -> Slope:
    if bias is None:
        kernels.relu(out, out)
    else:
        kernels.bias_relu.run(out, bias)
    return lambda g: kernels.relu_slope.run(out, g)


def _fused_tanh(out: Array, bias: Array | None, is_wanted: bool) -> Slope:
    if bias is not None:
        kernels.add_bias(out, bias)
    np.tanh(out, out)
    return lambda g: _tanh_slope(out, g)


def _fused_sigmoid(out: Array, bias: Array | None, is_wanted: bool) -> Slope:
    if bias is not None:
        kernels.add_bias(out, bias)
    kernels.sigmoid(out, out)
    return lambda g: _sigmoid_slope(out, g)


def _fused_gelu(out: Array, bias: Array | None, is_wanted: bool) -> Slope:
    slope = np.empty_like(out)
    if bias is None:
        kernels.gelu(out, out, slope if is_wanted else None)
    else:
        kernels.bias_gelu(out, bias, slope if is_wanted else None)
    return lambda g: _times(slope, g)


# Each adds the bias of [rows, width], applies the activation in place and returns its
# derivative.
FUSED: dict[str, Callable[[Array, Array | None, bool], Slope]] = {
    "relu": _fused_relu,
    "tanh": _fused_tanh,
    "sigmoid": _fused_sigmoid,
    "gelu": _fused_gelu,
}

_NAMED: dict[str, Callable[[Operand], Tensor]] = {
    "relu": relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "gelu": lambda x: gelu(x, "tanh"),
}


def named(activation: str) -> Callable[[Operand], Tensor]:
    """Return the activation called `activation`.

    Raises:
        ValueError: there is none of that name.
    """
    if activation not in _NAMED:
        raise ValueError(
            f"no activation is called {activation!r}; there are {', '.join(_NAMED)}"
        )
    return _NAMED[activation]
