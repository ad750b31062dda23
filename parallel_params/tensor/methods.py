"""Hang the operators on `Tensor`, as methods and as Python's own operators.

Importing this module does it. `tensor/signatures.py` tells readers and mypy how they are
called.
"""

from collections.abc import Callable, Sequence

from parallel_params.tensor.ops import arithmetic, activation, convert, matmul
from parallel_params.tensor.ops import reduction, shape
from parallel_params.tensor.tensor import Tensor


def _swapped(operator: Callable[..., Tensor]) -> Callable[[Tensor, object], Tensor]:
    def swapped(self: Tensor, other: object) -> Tensor:
        return operator(other, self)

    return swapped


def _reshape(self: Tensor, *lengths: int | Sequence[int]) -> Tensor:
    return shape.reshape(self, _spelled_out(lengths))


def _transpose(self: Tensor, *dims: int | Sequence[int]) -> Tensor:
    return shape.transpose(self, _spelled_out(dims) if dims else None)


def _spelled_out(numbers: tuple[int | Sequence[int], ...]) -> Sequence[int]:
    """Accept f(2, 3) and f((2, 3)) alike."""
    if len(numbers) == 1 and isinstance(numbers[0], Sequence):
        return numbers[0]
    return numbers  # type: ignore[return-value]  # the shape is checked by the operator


_METHODS: dict[str, object] = {
    "__add__": arithmetic.add,
    "__radd__": _swapped(arithmetic.add),
    "__sub__": arithmetic.sub,
    "__rsub__": _swapped(arithmetic.sub),
    "__mul__": arithmetic.mul,
    "__rmul__": _swapped(arithmetic.mul),
    "__truediv__": arithmetic.div,
    "__rtruediv__": _swapped(arithmetic.div),
    "__neg__": arithmetic.neg,
    "__matmul__": matmul.matmul,
    "matmul": matmul.matmul,
    "tanh": activation.tanh,
    "sum": reduction.sum,
    "mean": reduction.mean,
    "reshape": _reshape,
    "view": _reshape,
    "flatten": shape.flatten,
    "transpose": _transpose,
    "T": property(_transpose),
    "swapaxes": shape.swapaxes,
    "squeeze": shape.squeeze,
    "expand_dims": shape.expand_dims,
    "broadcast_to": shape.broadcast_to,
    "astype": convert.astype,
}

for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
