"""Softmax and its logarithm along one dim; 16-bit elements are computed in float32."""

from collections.abc import Callable

import numpy as np

from parallel_params.tensor import softmax_kernels as kernels
from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.dims import as_dim
from parallel_params.tensor.ops.value import Value
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def softmax(x: Operand, axis: int = -1) -> Tensor:
    """Return exp(x) / sum(exp(x)) along `axis`.

    Raises:
        TypeError: the elements are not floating point, or `axis` is not an integer.
        ValueError: `axis` is out of range.
    """
    a = as_operand(x, "softmax")
    if a._array.itemsize == 2 and a.dtype.is_float:
        return cast(softmax(cast(a, np.dtype(np.float32)), axis), a._array.dtype)
    out, dim = _by_rows(a, axis, "softmax", kernels.softmax)

    def grads(g: Value, out: Value) -> tuple[Value]:
        part = g * out
        return (part - out * part.sum(dim, keepdims=True),)

    return result(out, (a,), lambda g: grads(g, out), lambda g, out, _: grads(g, out))


def log_softmax(x: Operand, axis: int = -1) -> Tensor:
    """Return log(softmax(x)) along `axis`, without taking the logarithm of a softmax.

    Raises:
        TypeError: the elements are not floating point, or `axis` is not an integer.
        ValueError: `axis` is out of range.
    """
    a = as_operand(x, "log_softmax")
    if a._array.itemsize == 2 and a.dtype.is_float:
        return cast(log_softmax(cast(a, np.dtype(np.float32)), axis), a._array.dtype)
    out, dim = _by_rows(a, axis, "log_softmax", kernels.log_softmax)
    return result(
        out,
        (a,),
        lambda g: (g - np.exp(out) * g.sum(dim, keepdims=True),),
        lambda g, out, _: (g - out.exp() * g.sum(dim, keepdims=True),),
    )


def _by_rows(
    x: Tensor, axis: int, operator: str, kernel: Callable[[Array, Array], None]
) -> tuple[Array, int]:
    """Apply a kernel for rows along `axis`."""
    array = x._array
    if not x.dtype.is_float:
        raise TypeError(f"{operator} takes floating-point elements, not {x.dtype}")
    dim = as_dim(axis, array.ndim, operator)
    last = np.moveaxis(array, dim, -1)
    rows = np.ascontiguousarray(last).reshape(-1, array.shape[dim] or 1)
    out = np.empty_like(rows)
    kernel(rows, out)
    return np.moveaxis(out.reshape(last.shape), -1, dim), dim
