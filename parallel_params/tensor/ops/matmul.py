"""Products of matrices: `matmul` in all its shapes, and `linear`, made for layers.

BLAS reads transposed views for free, so nothing here is copied to be transposed.
Products of tensors of two element types are refused, as in MindSpore: a silent cast of
a weight would double its memory.
"""

import math

import numpy as np

from parallel_params.tensor import tape
from parallel_params.tensor.dense_kernels import times_weight, weight_grad
from parallel_params.tensor.kernels import add_bias, sum_of_rows
from parallel_params.tensor.ops.activation import FUSED, Slope, named
from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.value import Value
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def matmul(left: Operand, right: Operand) -> Tensor:
    """Return the matrix product, batched over leading dims, which broadcast.

    Args:
        left: [..., n, k], or a vector [k].
        right: [..., k, m], or a vector [k].

    Returns:
        [..., n, m]; without n or m where a vector was given.

    Raises:
        TypeError: the element types differ.
        ValueError: the inner dims differ, an operand is 0-d, or the batches do not
            broadcast.
    """
    a, b = as_operand(left, "matmul"), as_operand(right, "matmul")
    x, y = a._array, b._array
    _check_dtypes("matmul", x, y)
    if x.itemsize == 2 and x.dtype.kind not in "iu":
        # There is no BLAS for 16 bits; float32 is faster by far, and adds up exactly.
        single = np.dtype(np.float32)
        return cast(matmul(cast(a, single), cast(b, single)), x.dtype)
    try:
        out = np.matmul(x, y)
    except ValueError:
        raise ValueError(_misfit(x.shape, y.shape)) from None
    wants = a._node is not None, b._node is not None
    if x.ndim == 2 and y.ndim == 2:
        node = b._node
        return result(
            out, (a, b), lambda g: _plane_grads(g, x, y, wants, node), _matmul_higher
        )
    return result(out, (a, b), lambda g: _matmul_grads(g, x, y, wants), _matmul_higher)


def bmm(input_x: Operand, mat2: Operand) -> Tensor:
    """Return the matrix products of two batches: [B, n, k] and [B, k, m].

    Raises:
        TypeError: the element types differ.
        ValueError: an operand has other than three dims, or the shapes do not fit.
    """
    a, b = as_operand(input_x, "bmm"), as_operand(mat2, "bmm")
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0]:
        raise ValueError(
            f"bmm: shapes {a.shape} and {b.shape} are not [B, n, k] and [B, k, m]"
        )
    return matmul(a, b)


def _plane_grads(
    g: Array, x: Array, y: Array, wants: tuple[bool, bool], node: tape.Node | None
) -> tuple[Array | None, Array | None]:
    dx = np.matmul(g, y.T) if wants[0] else None
    if not wants[1]:
        return dx, None
    sink = None if node is None else node.sink()
    return dx, np.matmul(x.T, g) if sink is None else np.matmul(x.T, g, out=sink)


def _matmul_grads(
    g: Value, x: Value, y: Value, wants: tuple[bool, bool] = (True, True)
) -> tuple[Value | None, Value | None]:
    """Bring vectors to matrices, differentiate those, and take the shapes back."""
    x2 = x.reshape((1, *x.shape)) if len(x.shape) == 1 else x
    y2 = y.reshape((*y.shape, 1)) if len(y.shape) == 1 else y
    if len(x.shape) == 1 and len(y.shape) == 1:
        g = g.reshape((1, 1))
    elif len(x.shape) == 1:
        g = g.reshape((*g.shape[:-1], 1, g.shape[-1]))
    elif len(y.shape) == 1:
        g = g.reshape((*g.shape, 1))
    dx = _fold(g @ y2.swapaxes(-1, -2), x) if wants[0] else None
    dy = _fold(x2.swapaxes(-1, -2) @ g, y) if wants[1] else None
    return dx, dy


def _fold(grad: Value, like: Value) -> Value:
    """Sum the gradient of matrices over broadcast batch dims; shape it like `like`."""
    shape = like.shape
    batch = shape[:-2]
    lead = len(grad.shape) - 2 - len(batch)
    dims = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(batch) if n == 1 and grad.shape[lead + i] != 1
    )
    if dims:
        grad = grad.sum(dims)
    return grad if grad.shape == shape else grad.reshape(shape)


def _matmul_higher(
    g: Tensor, _: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    return _matmul_grads(g, x, y)


def linear(
    x: Operand,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Return activation(x @ weight.T + bias) in one operation.

    The bias and the activation are applied in place, and the derivative of the
    activation is kept instead of its input.

    Args:
        x: [..., in].
        weight: [out, in].
        bias: [out], or None.
        activation: "relu", "tanh", "sigmoid", "gelu", or None.

    Returns:
        [..., out].

    Raises:
        TypeError: the element types differ.
        ValueError: the shapes do not fit, or the activation is unknown.
    """
    a = as_operand(x, "linear")
    array, w = a._array, weight._array
    shift = None if bias is None else bias._array
    _check_linear("linear", array, w, shift)
    if activation is not None and activation not in FUSED:
        named(activation)  # raises for an unknown name
    if tape.is_nested() or array.dtype.char not in "fd":
        return _plain_linear(a, weight, bias, activation)
    rows = array
    if array.ndim != 2:
        rows = array.reshape(math.prod(array.shape[:-1]), w.shape[1])
    out = times_weight.run(rows, w)
    inputs = (a, weight) if bias is None else (a, weight, bias)
    nodes = a._node, weight._node, None if bias is None else bias._node
    slope: Slope | None = None
    if activation is not None:
        slope = FUSED[activation](out, shift, nodes != (None, None, None))
    elif shift is not None:
        add_bias.run(out, shift)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        grad = g if g.ndim == 2 else g.reshape(len(rows), w.shape[0])
        if slope is not None:
            grad = slope(grad)
        grads = linear_grads(grad, array, rows, w, nodes)
        return grads[:2] if shift is None else grads

    if array.ndim == 2:
        return result(out, inputs, vjp)
    return result(out.reshape(*array.shape[:-1], w.shape[0]), inputs, vjp)


def affine(
    x: Tensor, weight: Tensor, bias: Tensor | None, operator: str
) -> tuple[Array, Array]:
    """Return the rows of x, and a fresh [rows, out] x @ weight.T + bias, not recorded.

    Args:
        x: [..., in] of floating point.
        weight: [out, in].
        bias: [out], or None.
        operator: who asks, for errors: those of `linear`.
    """
    array, w = x._array, weight._array
    shift = None if bias is None else bias._array
    _check_linear(operator, array, w, shift)
    rows = array.reshape(math.prod(array.shape[:-1]), w.shape[1])
    out = times_weight.run(rows, w)
    if shift is not None:
        add_bias.run(out, shift)
    return rows, out


def linear_grads(
    g: Array,
    x: Array,
    rows: Array,
    w: Array,
    nodes: tuple[tape.Node | None, tape.Node | None, tape.Node | None],
) -> tuple[Array | None, Array | None, Array | None]:
    """Write the gradients of weight and bias into their sinks, if they have some."""
    dx = dw = db = None
    # First what reads g from row to row: it has just been written, and is in cache.
    if nodes[2] is not None:
        db = sum_of_rows.run(g, nodes[2].sink())
    if nodes[0] is not None:
        dx = np.matmul(g, w)
        if x.ndim != 2:
            dx = dx.reshape(x.shape)
    if nodes[1] is not None:
        dw = weight_grad.run(g, rows, nodes[1].sink())
    return dx, dw, db


def _plain_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None
) -> Tensor:
    """The same out of single operators, each of which has its own second derivative."""
    out = matmul(x, weight.transpose())
    if bias is not None:
        out = out + bias
    return out if activation is None else named(activation)(out)


def _check_linear(operator: str, x: Array, weight: Array, bias: Array | None) -> None:
    xs, ws = x.shape, weight.shape
    if not xs or len(ws) != 2 or xs[-1] != ws[1]:
        raise ValueError(
            f"{operator}: x of shape {xs} does not fit weight of shape {ws}: weight "
            f"must be [out, in] and the last dim of x must be `in`"
        )
    if x.dtype is not weight.dtype:
        _check_dtypes(operator, x, weight)
    if bias is None:
        return
    if bias.shape != ws[:1]:
        raise ValueError(
            f"{operator}: bias of shape {bias.shape} does not fit weight of shape "
            f"{ws}: it must be {ws[:1]}"
        )
    if x.dtype is not bias.dtype:
        _check_dtypes(operator, x, bias)


def _check_dtypes(operator: str, x: Array, y: Array) -> None:
    if x.dtype != y.dtype:
        raise TypeError(
            f"{operator}: operands must have one element type, not {x.dtype.name} and "
            f"{y.dtype.name}; convert one with astype()"
        )


def _misfit(x: tuple[int, ...], y: tuple[int, ...]) -> str:
    if not x or not y:
        return f"matmul: shapes {x} and {y}: operands need at least one dim"
    inner = y[0] if len(y) == 1 else y[-2]
    if x[-1] != inner:
        dim = 0 if len(y) == 1 else len(y) - 2
        return (
            f"matmul: shapes {x} and {y} do not fit: dim {len(x) - 1} of the left is "
            f"{x[-1]}, dim {dim} of the right is {inner}"
        )
    return f"matmul: the leading dims of {x} and {y} do not broadcast"
