"""What `value_and_grad` and its relatives refuse."""

from typing import Any

import numpy as np
import pytest

from parallel_params.nn.parameter import Parameter
from parallel_params.tensor import (
    Tensor,
    grad,
    value_and_grad,
)

X = Tensor([1.0, 2.0])
Y = Tensor([3.0, 4.0])


def _weight(*values: float, name: str = "w") -> Parameter:
    return Parameter(Tensor(list(values)), name=name)


def _product(x: Tensor, y: Tensor) -> Tensor:
    return x * x * y


def _parts(value: object) -> tuple[Any, ...]:
    """The parts of a nested answer, whose type depends on what was asked for."""
    assert isinstance(value, tuple)
    return value


def _array(value: object) -> list[float]:
    assert isinstance(value, Tensor)
    return value.asnumpy().tolist()  # type: ignore[no-any-return]


def test_neither_position_nor_weights_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to differentiate by"):
        value_and_grad(_product, None, None)


def test_a_position_beyond_the_inputs_is_an_error_of_the_call() -> None:
    fn = value_and_grad(_product, 2)
    with pytest.raises(RuntimeError, match="position 2 is beyond the 2 inputs"):
        fn(X, Y)


@pytest.mark.parametrize("position", ["0", 0.0, True, (0, "1")])
def test_a_position_that_is_no_integer_is_a_type_error(position: object) -> None:
    with pytest.raises(TypeError, match="grad_position must be an integer"):
        value_and_grad(_product, position)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", ["w", 3, [1.0], {"w": X}])
def test_weights_that_are_no_tensors_are_a_type_error(weights: object) -> None:
    with pytest.raises(TypeError, match="weights"):
        value_and_grad(_product, None, weights)  # type: ignore[arg-type]


def test_what_is_not_callable_is_an_error_of_the_call() -> None:
    fn = value_and_grad(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not callable"):
        fn(X)


def test_an_ndarray_cannot_be_differentiated_by() -> None:
    with pytest.raises(TypeError, match=r"input 0 is an ndarray.*Tensor"):
        grad(lambda x: x)(np.ones(2))


def test_a_function_of_numbers_is_an_error() -> None:
    with pytest.raises(TypeError, match="must return tensors, not float"):
        grad(lambda x: 3.0)(X)
