"""Functions of one number, element by element: powers, roots, exp, log, sin, abs."""

import math
from collections.abc import Callable

import numpy as np

from parallel_params.tensor import erf as erf_kernel
from parallel_params.tensor.ops.apply import (
    Operand,
    as_operand,
    broadcasted,
    cast,
    pair,
    result,
)
from parallel_params.tensor.ops.value import Value, array_of, like, unbroadcast
from parallel_params.tensor.ops.value import log as log_of
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def exp(x: Operand) -> Tensor:
    """Return e to the power of x."""
    a = as_float(x, "exp")
    out = np.exp(a._array)
    return result(out, (a,), lambda g: (g * out,), lambda g, out, _: (g * out,))


def log(x: Operand) -> Tensor:
    """Return the natural logarithm."""
    a = as_float(x, "log")
    array = a._array
    return result(np.log(array), (a,), lambda g: (g / array,), lambda g, _, x: (g / x,))


def sqrt(x: Operand) -> Tensor:
    """Return the square root."""
    a = as_float(x, "sqrt")
    out = np.sqrt(a._array)

    def grads(g: Value, out: Value) -> tuple[Value]:
        return (g / (out + out),)

    return result(out, (a,), lambda g: grads(g, out), lambda g, out, _: grads(g, out))


def root(x: Tensor) -> Tensor:
    """Return the square root, for sums of squares: its derivative at 0 is 0."""
    out = np.sqrt(x._array)

    def grads(g: Value, out: Value) -> tuple[Value]:
        is_zero = like(g, zeros_of(out))
        return (g * (1.0 - is_zero) / (out + out + is_zero),)

    return result(out, (x,), lambda g: grads(g, out), lambda g, out, _: grads(g, out))


def rsqrt(x: Operand) -> Tensor:
    """Return 1 / sqrt(x)."""
    return 1.0 / sqrt(x)


def reciprocal(x: Operand) -> Tensor:
    """Return 1 / x."""
    return 1.0 / as_operand(x, "reciprocal")


def square(x: Operand) -> Tensor:
    """Return x * x."""
    a = as_operand(x, "square")
    array = a._array

    def grads(g: Value, x: Value) -> tuple[Value]:
        return (g * (x + x),)

    return result(
        np.multiply(array, array),
        (a,),
        lambda g: grads(g, array),
        lambda g, _, x: grads(g, x),
    )


def sin(x: Operand) -> Tensor:
    """Return the sine of x in radians."""
    a = as_float(x, "sin")
    array = a._array
    return result(
        np.sin(array),
        (a,),
        lambda g: (g * np.cos(array),),
        lambda g, _, x: (g * cos(x),),
    )


def cos(x: Operand) -> Tensor:
    """Return the cosine of x in radians."""
    a = as_float(x, "cos")
    array = a._array
    return result(
        np.cos(array),
        (a,),
        lambda g: (-g * np.sin(array),),
        lambda g, _, x: (-g * sin(x),),
    )


def erf(x: Operand) -> Tensor:
    """Return the error function, 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x."""
    a = as_float(x, "erf")
    array = a._array
    if array.itemsize == 2:
        return cast(erf(cast(a, np.dtype(np.float32))), array.dtype)
    scale = 2.0 / math.sqrt(math.pi)
    return result(
        erf_kernel.erf(array),
        (a,),
        lambda g: (g * (np.exp(-(array * array)) * scale),),
        lambda g, _, x: (g * (exp(-(x * x)) * scale),),
    )


def abs(x: Operand) -> Tensor:
    """Return the absolute value; its derivative at 0 is 0."""
    a = as_operand(x, "abs")
    array = a._array

    def grads(g: Value) -> tuple[Value]:
        return (g * like(g, np.asarray(np.sign(array))),)

    return result(np.abs(array), (a,), grads, lambda g, *_: grads(g))


def sign(x: Operand) -> Tensor:
    """Return -1, 0 or 1; its derivative is 0."""
    return _constant(np.sign, x, "sign")


def floor(x: Operand) -> Tensor:
    """Return the largest whole number not above x; its derivative is 0."""
    return _constant(np.floor, x, "floor")


def ceil(x: Operand) -> Tensor:
    """Return the smallest whole number not below x; its derivative is 0."""
    return _constant(np.ceil, x, "ceil")


def round(x: Operand) -> Tensor:
    """Return the nearest whole number, of two the even one; its derivative is 0."""
    return _constant(np.rint, x, "round")


def _constant(ufunc: Callable[[Array], Array], x: Operand, operator: str) -> Tensor:
    """Apply a function whose derivative is 0 wherever there is one."""
    array = as_operand(x, operator)._array
    return Tensor.wrap(np.asarray(ufunc(array)).astype(array.dtype, copy=False))


def pow(base: Operand, exponent: Operand) -> Tensor:
    """Return base to the power of exponent, broadcast.

    Small whole exponents given as Python numbers are multiplications, because NumPy's
    power is fifty times slower than those.
    """
    if isinstance(base, Tensor) and type(exponent) in (int, float):
        known = _POWERS.get(float(exponent))  # type: ignore[arg-type]
        if known is not None and base._array.dtype.kind in "fVc":
            return known(base)
    a, b = pair(base, exponent, "pow")
    x, y = a._array, b._array
    out = broadcasted(np.power, x, y, "pow")
    wants = a._node is not None, b._node is not None
    return result(
        out,
        (a, b),
        lambda g: _pow_grads(g, out, x, y, wants),
        lambda g, out, x, y: _pow_grads(g, out, x, y, wants),
    )


def _pow_grads(
    g: Value, out: Value, x: Value, y: Value, wants: tuple[bool, bool]
) -> tuple[Value | None, Value | None]:
    of_x = of_y = None
    if wants[0]:
        # x**0 is flat also where x**-1 is infinite.
        is_flat = like(y, zeros_of(y))
        of_x = unbroadcast(g * (y * x ** (y - 1 + is_flat)), x.shape)
    if wants[1]:
        # 0**y is flat unless y is negative, and the logarithm of 0 infinite.
        is_flat = like(x, zeros_of(x) * np.greater_equal(array_of(y), 0))
        of_y = unbroadcast(g * (out * log_of(x + is_flat)), y.shape)
    return of_x, of_y


def zeros_of(value: Value) -> Array:
    """Return 1 where an element is 0 and 0 elsewhere."""
    array = array_of(value)
    return np.asarray(np.equal(array, 0)).astype(array.dtype)


_POWERS: dict[float, Callable[[Tensor], Tensor]] = {
    1: lambda x: x * 1.0,
    2: square,
    3: lambda x: square(x) * x,
    4: lambda x: square(square(x)),
    0.5: sqrt,
    -1: reciprocal,
    -2: lambda x: square(reciprocal(x)),
    -0.5: rsqrt,
}


def as_float(x: Operand, operator: str) -> Tensor:
    """Return `x` as a tensor of floating-point elements; integers become float32."""
    a = as_operand(x, operator)
    if a._array.dtype.kind in "biu":
        return cast(a, np.dtype(np.float32))
    return a
