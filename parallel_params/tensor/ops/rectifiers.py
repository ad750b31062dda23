"""Activations close to relu: a slope, a curve or a bump where relu is 0.

Put together from single operators; 16-bit elements are computed in float32.
"""

from collections.abc import Callable

import numpy as np

from parallel_params.tensor.ops.activation import softplus, tanh
from parallel_params.tensor.ops.apply import Operand, cast, result
from parallel_params.tensor.ops.compare import where
from parallel_params.tensor.ops.elementwise import abs, as_float, exp
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def leaky_relu(input: Operand, alpha: float = 0.2) -> Tensor:
    """Return x where x > 0, else alpha * x. The derivative at 0 is `alpha`.

    Args:
        input: integers count as float32.
        alpha: the slope for negative numbers.

    Source: Maas, Hannun and Ng, Rectifier Nonlinearities Improve Neural Network
    Acoustic Models (2013), section 2.
    """
    return _wide(input, "leaky_relu", lambda x: where(x > 0, x, x * alpha))


def elu(input: Operand, alpha: float = 1.0) -> Tensor:
    """Return x where x > 0, else alpha * (exp(x) - 1).

    Args:
        input: integers count as float32.
        alpha: the negative of the limit on the left.

    Source: Clevert, Unterthiner and Hochreiter, Exponential Linear Units (2016),
    section 3.
    """
    return _wide(input, "elu", lambda x: _elu(x, alpha))


def _elu(x: Tensor, alpha: float) -> Tensor:
    array = x._array
    is_large, scale = array > 0, np.asarray(alpha, array.dtype)
    # Not of a large x: what is not used would overflow.
    low = np.minimum(array, np.asarray(0, array.dtype))

    def back(g: Array) -> tuple[Array]:
        return (np.where(is_large, g, g * (np.exp(low) * scale)),)

    def higher(g: Tensor, _: Tensor, x: Tensor) -> tuple[Tensor]:
        bent = exp(where(Tensor.wrap(is_large), 0.0, x)) * alpha
        return (g * where(Tensor.wrap(is_large), 1.0, bent),)

    return result(np.where(is_large, array, np.expm1(low) * scale), (x,), back, higher)


def hardswish(input: Operand) -> Tensor:
    """Return x * min(max(x + 3, 0), 6) / 6; its derivative at 3 is 1 and at -3 is 0.

    Args:
        input: integers count as float32.

    Source: Howard et al., Searching for MobileNetV3 (2019), section 5.2.
    """
    return _wide(input, "hardswish", _hardswish)


def _hardswish(x: Tensor) -> Tensor:
    # Not of a large x: the derivative of what is not used would be infinite.
    inner = where(abs(x) >= 3.0, 0.0, x)
    bent = inner * (inner + 3.0) * (1.0 / 6.0)
    return where(x >= 3.0, x, where(x <= -3.0, 0.0, bent))


def mish(x: Operand) -> Tensor:
    """Return x * tanh(log(1 + exp(x))).

    Args:
        x: integers count as float32.

    Source: Misra, Mish: A Self Regularized Non-Monotonic Activation Function (2020),
    section 3.
    """
    return _wide(x, "mish", lambda x: x * tanh(softplus(x)))


def _wide(x: Operand, operator: str, function: Callable[[Tensor], Tensor]) -> Tensor:
    a = as_float(x, operator)
    if a._array.itemsize == 2:
        return cast(function(cast(a, np.dtype(np.float32))), a._array.dtype)
    return function(a)
