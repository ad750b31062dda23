"""Other shapes of the same elements: reshape, transpose, broadcast, squeeze."""

from collections.abc import Sequence

import numpy as np

from parallel_params.tensor.ops.apply import Operand, as_operand, result
from parallel_params.tensor.ops.dims import Dims, as_dim, as_dims, as_shape
from parallel_params.tensor.ops.value import Value, unbroadcast
from parallel_params.tensor.tensor import Tensor


def reshape(x: Operand, shape: int | Sequence[int]) -> Tensor:
    """Return the elements, in C order, in another shape; one length may be -1.

    Raises:
        ValueError: the shape has another number of elements.
    """
    a = as_operand(x, "reshape")
    source, wanted = a._array.shape, as_shape(shape, "reshape")
    try:
        out = a._array.reshape(wanted)
    except ValueError:
        raise ValueError(
            f"reshape: {a.size} elements of shape {source} do not fill {wanted}"
        ) from None
    return result(
        out,
        (a,),
        lambda g: (g.reshape(source),),
        lambda g, *_: (g.reshape(source),),
    )


def transpose(x: Operand, input_perm: Sequence[int] | None = None) -> Tensor:
    """Return the tensor with its dims in the order `input_perm`; reversed by default.

    Raises:
        ValueError: `input_perm` does not name every dim once.
    """
    a = as_operand(x, "transpose")
    ndim = a._array.ndim
    if input_perm is None:
        dims = tuple(range(ndim - 1, -1, -1))
    else:
        dims = tuple(as_dim(dim, ndim, "transpose") for dim in input_perm)
        if sorted(dims) != list(range(ndim)):
            raise ValueError(
                f"transpose: {tuple(input_perm)} does not name every dim of shape "
                f"{a.shape} once"
            )
    back = tuple(sorted(range(ndim), key=dims.__getitem__))

    def grads(g: Value) -> tuple[Value]:
        return (g.transpose(back),)

    return result(a._array.transpose(dims), (a,), grads, lambda g, *_: grads(g))


def swapaxes(x: Operand, axis0: int, axis1: int) -> Tensor:
    """Return the tensor with two dims exchanged."""
    a = as_operand(x, "swapaxes")
    first = as_dim(axis0, a._array.ndim, "swapaxes")
    second = as_dim(axis1, a._array.ndim, "swapaxes")

    def grads(g: Value) -> tuple[Value]:
        return (g.swapaxes(first, second),)

    return result(a._array.swapaxes(first, second), (a,), grads, lambda g, *_: grads(g))


def broadcast_to(x: Operand, shape: Sequence[int]) -> Tensor:
    """Return the tensor repeated to `shape`, where -1 keeps the length of a dim.

    Raises:
        ValueError: the tensor does not broadcast to `shape`.
    """
    a = as_operand(x, "broadcast_to")
    source = a._array.shape
    wanted = as_shape(shape, "broadcast_to")
    if -1 in wanted:
        lead = len(wanted) - len(source)
        wanted = tuple(
            source[i - lead] if n == -1 and i >= lead else n
            for i, n in enumerate(wanted)
        )
    try:
        out = np.broadcast_to(a._array, wanted)
    except ValueError:
        raise ValueError(
            f"broadcast_to: shape {source} does not broadcast to {wanted}"
        ) from None

    def grads(g: Value) -> tuple[Value]:
        return (unbroadcast(g, source),)

    # A copy, because a tensor can be written to and a broadcast view cannot.
    return result(out.copy(), (a,), grads, lambda g, *_: grads(g))


def expand_dims(x: Operand, axis: int) -> Tensor:
    """Return the tensor with a new dim of length 1 at `axis`."""
    a = as_operand(x, "expand_dims")
    dim = as_dim(axis, a._array.ndim + 1, "expand_dims")
    shape = a._array.shape
    return reshape(a, (*shape[:dim], 1, *shape[dim:]))


def squeeze(x: Operand, axis: Dims = None) -> Tensor:
    """Return the tensor without the dims in `axis`, by default all of length 1.

    Raises:
        ValueError: a dim in `axis` is longer than 1.
    """
    a = as_operand(x, "squeeze")
    shape = a._array.shape
    if axis is None:
        return reshape(a, tuple(n for n in shape if n != 1))
    dims = as_dims(axis, len(shape), "squeeze") or ()
    for dim in dims:
        if shape[dim] != 1:
            raise ValueError(
                f"squeeze: dim {dim} of shape {shape} has length {shape[dim]}, not 1"
            )
    return reshape(a, tuple(n for i, n in enumerate(shape) if i not in dims))


def flatten(x: Operand, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Return the tensor with the dims from `start_dim` to `end_dim` made one."""
    a = as_operand(x, "flatten")
    shape = a._array.shape or (1,)
    first = as_dim(start_dim, len(shape), "flatten")
    last = as_dim(end_dim, len(shape), "flatten")
    if first > last:
        raise ValueError(f"flatten: dim {first} lies behind dim {last}")
    numel = 1
    for n in shape[first : last + 1]:
        numel *= n
    return reshape(a, (*shape[:first], numel, *shape[last + 1 :]))
