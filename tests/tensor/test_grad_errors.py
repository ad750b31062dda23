"""What `value_and_grad` and its relatives refuse."""

import numpy as np
import pytest
from graded import X, Y, product

from parallel_params.tensor import (
    grad,
    value_and_grad,
)


def test_neither_position_nor_weights_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to differentiate by"):
        value_and_grad(product, None, None)


def test_a_position_beyond_the_inputs_is_an_error_of_the_call() -> None:
    fn = value_and_grad(product, 2)
    with pytest.raises(RuntimeError, match="position 2 is beyond the 2 inputs"):
        fn(X, Y)


@pytest.mark.parametrize("position", ["0", 0.0, True, (0, "1")])
def test_a_position_that_is_no_integer_is_a_type_error(position: object) -> None:
    with pytest.raises(TypeError, match="grad_position must be an integer"):
        value_and_grad(product, position)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", ["w", 3, [1.0], {"w": X}])
def test_weights_that_are_no_tensors_are_a_type_error(weights: object) -> None:
    with pytest.raises(TypeError, match="weights"):
        value_and_grad(product, None, weights)  # type: ignore[arg-type]


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
