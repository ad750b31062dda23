"""Hang the operators on `Tensor`, as methods and as Python's own operators.

Importing this module does it. `tensor/signatures.py` tells readers and mypy how they
are called; a test holds the two to one another.
"""

from collections.abc import Callable, Sequence

from parallel_params.tensor.ops import (
    activation,
    arithmetic,
    compare,
    convert,
    elementwise,
    extreme,
    indexing,
    join,
    matmul,
    reduction,
    shape,
    softmax,
)
from parallel_params.tensor.tensor import Tensor


def _swapped(operator: Callable[..., Tensor]) -> Callable[[Tensor, object], Tensor]:
    def swapped(self: Tensor, other: object) -> Tensor:
        return operator(other, self)

    return swapped


def _or_identity(operator: Callable[..., Tensor]) -> Callable[[Tensor, object], object]:
    """Leave comparison with what is no number to Python: by identity."""

    def compared(self: Tensor, other: object) -> object:
        if other is None or isinstance(other, str | dict | set):
            return NotImplemented
        return operator(self, other)

    return compared


def _reshape(self: Tensor, *lengths: int | Sequence[int]) -> Tensor:
    return shape.reshape(self, _spelled_out(lengths))


def _transpose(self: Tensor, *dims: int | Sequence[int]) -> Tensor:
    return shape.transpose(self, _spelled_out(dims) if dims else None)


def _spelled_out(numbers: tuple[int | Sequence[int], ...]) -> Sequence[int]:
    """Accept f(2, 3) and f((2, 3)) alike."""
    if len(numbers) == 1 and isinstance(numbers[0], Sequence):
        return numbers[0]
    return numbers  # type: ignore[return-value]  # the operator checks each of them


METHODS: dict[str, object] = {
    "__add__": arithmetic.add,
    "__radd__": _swapped(arithmetic.add),
    "__sub__": arithmetic.sub,
    "__rsub__": _swapped(arithmetic.sub),
    "__mul__": arithmetic.mul,
    "__rmul__": _swapped(arithmetic.mul),
    "__truediv__": arithmetic.div,
    "__rtruediv__": _swapped(arithmetic.div),
    "__floordiv__": arithmetic.floor_div,
    "__rfloordiv__": _swapped(arithmetic.floor_div),
    "__mod__": arithmetic.mod,
    "__rmod__": _swapped(arithmetic.mod),
    "__pow__": elementwise.pow,
    "__rpow__": _swapped(elementwise.pow),
    "__matmul__": matmul.matmul,
    "__neg__": arithmetic.neg,
    "__pos__": convert.copy,
    "__abs__": elementwise.abs,
    "__invert__": compare.invert,
    "__and__": compare.logical_and,
    "__or__": compare.logical_or,
    "__xor__": compare.logical_xor,
    "__eq__": _or_identity(compare.equal),
    "__ne__": _or_identity(compare.not_equal),
    "__lt__": compare.less,
    "__le__": compare.less_equal,
    "__gt__": compare.greater,
    "__ge__": compare.greater_equal,
    "__getitem__": indexing.getitem,
    "__setitem__": indexing.setitem,
    "__iter__": indexing.iterate,
    "T": property(shape.transpose),
    "abs": elementwise.abs,
    "astype": convert.astype,
    "exp": elementwise.exp,
    "log": elementwise.log,
    "sqrt": elementwise.sqrt,
    "square": elementwise.square,
    "sigmoid": activation.sigmoid,
    "tanh": activation.tanh,
    "pow": elementwise.pow,
    "clip": arithmetic.clip_by_value,
    "sum": reduction.sum,
    "mean": reduction.mean,
    "max": extreme.amax,
    "min": extreme.amin,
    "var": extreme.var,
    "std": extreme.std,
    "argmax": extreme.argmax,
    "argmin": extreme.argmin,
    "softmax": softmax.softmax,
    "reshape": _reshape,
    "view": _reshape,
    "flatten": shape.flatten,
    "transpose": _transpose,
    "swapaxes": shape.swapaxes,
    "squeeze": shape.squeeze,
    "expand_dims": shape.expand_dims,
    "broadcast_to": shape.broadcast_to,
    "split": join.split,
    "copy": convert.copy,
    "matmul": matmul.matmul,
}

for _name, _method in METHODS.items():
    setattr(Tensor, _name, _method)
