"""Small operands of gradients, and what their answers consist of."""

from typing import Any

from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.tensor import Tensor

X = Tensor([1.0, 2.0])
Y = Tensor([3.0, 4.0])


def weight(*values: float, name: str = "w") -> Parameter:
    """A float32 parameter of these values."""
    return Parameter(Tensor(list(values)), name=name)


def product(x: Tensor, y: Tensor) -> Tensor:
    """A function whose derivatives tell its operands apart."""
    return x * x * y


def parts(value: object) -> tuple[Any, ...]:
    """The parts of a nested answer, whose type depends on what was asked for."""
    assert isinstance(value, tuple)
    return value


def array(value: object) -> list[float]:
    """The numbers of a tensor, whatever the type says."""
    assert isinstance(value, Tensor)
    return value.asnumpy().tolist()  # type: ignore[no-any-return]
