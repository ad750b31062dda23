"""The check of derivatives itself: it finds what is wrong, and says what it cannot."""

import pytest
from operands import away_from_kinks

from parallel_params import ops
from parallel_params.tensor import Tensor, float32
from parallel_params.tensor.gradcheck import check_grad
from parallel_params.tensor.tape import Array

X = away_from_kinks(3, 4)


def _wrong_square(x: Tensor) -> Tensor:
    from parallel_params.tensor.ops.apply import result

    def grads(g: Array) -> tuple[Array]:
        return (g * x._array,)  # half of what it should be

    return result(x._array**2, (x,), grads)


def test_a_wrong_derivative_is_found() -> None:
    with pytest.raises(AssertionError, match="derivative of order 1"):
        check_grad(_wrong_square, X)


def test_a_missing_second_derivative_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="no second derivative"):
        check_grad(lambda x: _wrong_square(x) + x * 0.0, X, order=2, tolerance=10.0)


def test_float32_cannot_be_checked() -> None:
    with pytest.raises(TypeError, match="must be float64"):
        check_grad(ops.exp, X.astype(float32))


def test_third_order_is_there() -> None:
    check_grad(lambda x: ops.exp(ops.sin(x)) / (x * x + 1.0), X, order=3)
