"""Activations on arrays of many blocks and on the ugly ones; nan and infinity."""

from collections.abc import Callable

import numpy as np
import pytest
from grads import gradients_of
from operands import draw

from parallel_params import ops
from parallel_params.tensor import Tensor, value_and_grad

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": ops.relu,
    "erf": ops.erf,
    "gelu": ops.gelu,
    "gelu by tanh": lambda x: ops.gelu(x, "tanh"),
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "silu": ops.silu,
    "leaky_relu": ops.leaky_relu,
    "elu": ops.elu,
    "hardswish": ops.hardswish,
    "mish": ops.mish,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_many_blocks_equal_those_of_one_number(activation: str) -> None:
    operator = ACTIVATIONS[activation]
    x = np.linspace(-4.0, 4.0, 200_003).astype(np.float32)
    out = operator(Tensor(x)).asnumpy()
    (gradient,) = gradients_of(operator, Tensor(x))
    for i in (0, 65_535, 65_536, 131_072, 200_002):
        one = Tensor(x[i : i + 1])
        np.testing.assert_allclose(out[i], operator(one).asnumpy()[0], rtol=1e-6)
        np.testing.assert_allclose(gradient[i], gradients_of(operator, one)[0][0], 1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_take_0d_empty_and_strided_tensors(activation: str) -> None:
    operator = ACTIVATIONS[activation]
    assert operator(Tensor(0.5)).shape == ()
    assert operator(Tensor(np.zeros((0, 2)))).shape == (0, 2)
    x = Tensor(draw((3, 4), 0))
    (gradient,) = gradients_of(lambda x: operator(x.T), x)
    np.testing.assert_array_equal(gradient, gradients_of(operator, x)[0])


def test_nan_goes_through_and_stays_in_its_row() -> None:
    x = Tensor([[1.0, np.nan], [1.0, 2.0]])
    assert np.isnan(ops.relu(x).asnumpy()).tolist() == [[False, True], [False, False]]
    for operator in (ops.softmax, ops.log_softmax):
        out = operator(x).asnumpy()
        assert np.isnan(out).tolist() == [[True, True], [False, False]]
    losses = ops.cross_entropy(x, Tensor([0, 1]), reduction="none").asnumpy()
    assert np.isnan(losses).tolist() == [True, False]
    assert np.isnan(ops.cross_entropy(x, Tensor([0, 1])).item())
    assert np.isnan(ops.maximum(x, 0.0).asnumpy()[0, 1])


def test_softmax_is_exact_for_rows_far_apart() -> None:
    x = np.array([[0.0, 1.0], [900.0, 901.0], [-900.0, -899.0], [-np.inf, 5.0]])
    rows = np.vstack([ops.softmax(Tensor(row)).asnumpy() for row in x])
    np.testing.assert_allclose(ops.softmax(Tensor(x)).asnumpy(), rows, rtol=1e-14)
    labels = Tensor([0, 1, 0, 1])
    losses = ops.cross_entropy(Tensor(x), labels, reduction="none").asnumpy()
    want = np.log1p(np.exp([1.0, -1.0, 1.0, -np.inf]))
    np.testing.assert_allclose(losses, want, rtol=1e-13)
    total = ops.cross_entropy(Tensor(x), labels, reduction="sum").item()
    np.testing.assert_allclose(total, want.sum(), rtol=1e-13)


def test_sigmoid_and_softplus_do_not_overflow() -> None:
    x = Tensor([-1000.0, 0.0, 1000.0])
    assert ops.sigmoid(x).tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(ops.softplus(x).asnumpy(), [0.0, np.log(2.0), 1000.0])


def test_division_by_zero_warns_as_numpy_does_and_obeys_errstate() -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        out = Tensor([1.0]) / 0.0
    assert out.item() == np.inf
    with np.errstate(divide="ignore"):
        assert ops.log(Tensor([0.0])).item() == -np.inf


def test_where_keeps_nan_out_of_the_gradient() -> None:
    def fn(x: Tensor) -> Tensor:
        with np.errstate(all="ignore"):
            return ops.where(x > 0.0, ops.log(x), 0.0)

    with np.errstate(all="ignore"):
        (gradient,) = gradients_of(fn, Tensor([-1.0, 2.0]))
    assert gradient.tolist() == [0.0, 0.5]


def test_powers_at_zero_have_their_true_derivative() -> None:
    zero = Tensor([0.0])
    assert gradients_of(lambda x: x**0, zero)[0].tolist() == [0.0]
    assert gradients_of(lambda x: x**1, zero)[0].tolist() == [1.0]
    assert gradients_of(lambda x: x**2, zero)[0].tolist() == [0.0]
    of_x, of_y = gradients_of(ops.pow, zero, Tensor([2.0]))
    assert (of_x.tolist(), of_y.tolist()) == ([0.0], [0.0])


def test_equal_elements_share_the_gradient_of_an_extreme() -> None:
    x = Tensor([1.0, 3.0, 3.0])
    assert gradients_of(ops.amax, x)[0].tolist() == [0.0, 0.5, 0.5]
    of_x, of_y = gradients_of(ops.maximum, Tensor([1.0, 2.0]), Tensor([1.0, 3.0]))
    assert (of_x.tolist(), of_y.tolist()) == ([0.5, 0.0], [0.5, 1.0])
    assert gradients_of(ops.relu, Tensor([0.0, -0.0]))[0].tolist() == [0.0, 0.0]
    clipped = gradients_of(lambda x: x.clip(1.0, 2.0), x)[0]
    assert clipped.tolist() == [1.0, 0.0, 0.0]


def test_the_slope_of_elu_at_zero_is_that_from_the_left() -> None:
    zeros = Tensor(np.zeros(2))
    _, slope = value_and_grad(lambda x: ops.elu(x, 0.5).sum(), 0)(zeros)
    assert isinstance(slope, Tensor)
    assert slope.tolist() == [0.5, 0.5]
