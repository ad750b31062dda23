"""What every operator does around its arithmetic: operands in, result on record.

The derivative of an operator stands beside its forward computation. Where it is short
it is written once, over a `Value` (`ops/value.py`): an array in an ordinary sweep, a
tensor in a sweep that will itself be differentiated.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from parallel_params.tensor import tape
from parallel_params.tensor.dtype import promote, promote_scalar
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor, as_array

Operand: TypeAlias = object

_SCALARS = {bool, int, float}
_new = object.__new__  # half the price of Tensor(...), and there is nothing to convert


def result(
    array: Array,
    inputs: tuple[Tensor, ...],
    vjp: tape.Vjp,
    higher: Callable[..., "tuple[Tensor | None, ...]"] | None = None,
) -> Tensor:
    """Return `array` as a tensor, with the operation on record if anyone wants it.

    Args:
        array: the result; a NumPy scalar is taken for a 0-d array.
        inputs: the operands.
        vjp: gradient of the result -> gradients of the inputs, as arrays.
        higher: (gradient, result, *inputs) -> gradients of the inputs, as tensors.
    """
    out = _new(Tensor)
    out._array = array if type(array) is np.ndarray else np.asarray(array)
    out._node = None
    tape.record(out, inputs, vjp, higher)
    return out


def note_write(x: Tensor) -> None:
    """Prepare a write to `x` that is not on the tape.

    A leaf notes it, so that a sweep which needs the old values refuses. A plain tensor
    that was read gets new memory, and the tape keeps the old one.
    """
    if isinstance(x._node, tape.AccumulatorLeaf):
        x._node.is_rewritten()
    elif type(x) is Tensor and getattr(x, "_is_read", False):
        x._array = x._array.copy()
        x._is_read = False


def as_operand(value: Operand, operator: str) -> Tensor:
    """Return `value` as a tensor.

    Raises:
        TypeError: it is not a tensor, number, list or tuple; an ndarray is refused so
            that it is visible where values leave and enter the tape.
    """
    if isinstance(value, Tensor):
        return value
    is_complex = isinstance(value, complex | np.complexfloating)
    if isinstance(value, int | float | np.generic | list | tuple) and not is_complex:
        return Tensor.wrap(as_array(value))
    remedy = "; wrap it in Tensor(...)" if isinstance(value, np.ndarray) else ""
    raise TypeError(
        f"{operator} takes tensors and numbers, not {type(value).__name__}{remedy}"
    )


def check_type(operator: str, x: Tensor, name: str, factor: Tensor) -> None:
    """Refuse a factor of another element type than the input's.

    Raises:
        TypeError: they differ.
    """
    if factor._array.dtype != x._array.dtype:
        raise TypeError(
            f"{operator}: the input is {x.dtype} and {name} {factor.dtype}; they must "
            f"have one element type, convert one with astype()"
        )


def pair(left: Operand, right: Operand, operator: str) -> tuple[Tensor, Tensor]:
    """Return both operands as tensors of one element type, by MindSpore's promotion."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        a, b = left._array.dtype, right._array.dtype
        if a is b:
            return left, right
        common = promote(a, b)
        return cast(left, common), cast(right, common)
    if isinstance(left, Tensor):
        return _with_scalar(left, right, operator)
    if isinstance(right, Tensor):
        other, scalar = _with_scalar(right, left, operator)
        return scalar, other
    return pair(as_operand(left, operator), as_operand(right, operator), operator)


def _with_scalar(
    tensor: Tensor, value: Operand, operator: str
) -> tuple[Tensor, Tensor]:
    kind: type = type(value)
    if kind not in _SCALARS:
        if not isinstance(value, int | float):
            return pair(tensor, as_operand(value, operator), operator)
        kind = float if isinstance(value, float) else int  # np.float64, an IntEnum
    common = promote_scalar(tensor._array.dtype, kind)
    # A 0-d array costs half of what a Python number costs in a ufunc.
    scalar = Tensor.wrap(np.asarray(value, dtype=common))
    return cast(tensor, common), scalar


def cast(tensor: Tensor, dtype: "np.dtype[np.generic]") -> Tensor:
    """Return the tensor with elements of `dtype`; itself if it has them."""
    array = tensor._array
    if array.dtype == dtype:
        return tensor
    source = array.dtype
    return result(
        array.astype(dtype),
        (tensor,),
        lambda g: (g.astype(source),),
        lambda g, out: (cast(g, source),),
    )


def broadcasted(ufunc: np.ufunc, x: Array, y: Array, operator: str) -> Array:
    """Return ufunc(x, y).

    Raises:
        ValueError: the shapes do not broadcast; names both and the dim.
    """
    try:
        out: Array = ufunc(x, y)
    except ValueError:
        complaint = misfit(operator, x.shape, y.shape)
        if complaint is None:
            raise
        raise ValueError(complaint) from None
    return out


def misfit(operator: str, x: tuple[int, ...], y: tuple[int, ...]) -> str | None:
    """Say where two shapes do not broadcast; None if they do."""
    for back in range(1, min(len(x), len(y)) + 1):
        n, m = x[-back], y[-back]
        if n != m and n != 1 and m != 1:
            return (
                f"{operator}: shapes {x} and {y} do not broadcast: dim "
                f"{len(x) - back} of the left is {n}, dim {len(y) - back} of the right "
                f"is {m}"
            )
    return None
