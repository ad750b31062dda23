"""Layers: Dense as PARAMETER.md's section 4 says, the others as their docstrings do."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from parallel_params import nn
from parallel_params.nn import Cell, Dense, Dropout
from parallel_params.tensor import Tensor, random, value_and_grad
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.initializer import XavierUniform

X = Tensor(np.linspace(-2.0, 2.0, 12, dtype=np.float32).reshape(4, 3))
EXACT = 1e-6  # float32, a dozen operations


def test_dense_has_a_weight_and_a_bias() -> None:
    dense = Dense(3, 2)
    shapes = [(p.name, p.shape) for p in dense.get_parameters()]
    assert shapes == [("weight", (2, 3)), ("bias", (2,))]
    assert dense.bias is not None
    assert dense.bias.asnumpy().tolist() == [0.0, 0.0]


def test_dense_draws_its_weight_from_a_narrow_normal_law() -> None:
    weight = Dense(200, 200).weight.asnumpy()
    assert abs(weight.std() - 0.01) < 0.0005
    assert abs(weight.mean()) < 0.0005
    assert not np.array_equal(weight, Dense(200, 200).weight.asnumpy())


def test_dense_computes_an_affine_map() -> None:
    dense = Dense(3, 2, weight_init=Tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]))
    wanted = X.asnumpy() @ dense.weight.asnumpy().T
    assert_allclose(dense(X).asnumpy(), wanted, rtol=EXACT)
    assert dense(Tensor(np.ones((5, 4, 3), np.float32))).shape == (5, 4, 2)


def test_dense_without_bias() -> None:
    dense = Dense(3, 2, "ones", has_bias=False)
    assert dense.bias is None
    assert [p.name for p in dense.get_parameters()] == ["weight"]
    assert_allclose(dense(X).asnumpy()[:, 0], X.asnumpy().sum(1), rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((0, 2), ValueError),
        ((2, 0), ValueError),
        ((-1, 2), ValueError),
        ((2.0, 2), TypeError),
        (("a", 2), TypeError),
        ((2, "a"), TypeError),
        ((True, 2), TypeError),
        ((3, 2, "unknown"), ValueError),
        ((3, 2, Tensor([[1.0]])), ValueError),
        ((3, 2, "normal", "xavier_uniform"), ValueError),
        ((3, 2, "normal", "zeros", 1), TypeError),
        ((3, 2, "normal", "zeros", True, "unknown"), ValueError),
        ((3, 2, "normal", "zeros", True, 3), TypeError),
    ],
)
def test_dense_refuses(given: tuple[int, int], error: type[Exception]) -> None:
    with pytest.raises(error):
        Dense(*given)


def test_dense_takes_laws_and_types() -> None:
    dense = Dense(3, 2, XavierUniform(), 0.5, dtype=dtypes.float64)
    assert dense.weight.dtype == dtypes.float64
    assert np.abs(dense.weight.asnumpy()).max() < np.sqrt(6 / 5)
    assert dense.bias is not None
    assert dense.bias.asnumpy().tolist() == [0.5, 0.5]
    given = Dense(1, 1, Tensor(np.ones((1, 1))))
    assert given.weight.dtype == dtypes.float64, "a tensor keeps its own type"


@pytest.mark.parametrize(
    "name", ["relu", "gelu", "tanh", "sigmoid", "softmax", "logsoftmax"]
)
def test_dense_applies_an_activation_by_name_or_as_a_cell(name: str) -> None:
    by_name = Dense(3, 2, 0.3, 0.1, activation=name)
    activation = nn.get_activation(name)
    assert activation is not None
    as_cell = Dense(3, 2, 0.3, 0.1, activation=activation)

    wanted = activation(Dense(3, 2, 0.3, 0.1)(X)).asnumpy()

    assert_allclose(by_name(X).asnumpy(), wanted, rtol=EXACT)
    assert_array_equal(as_cell(X).asnumpy(), by_name(X).asnumpy())


def test_get_activation_passes_none_through() -> None:
    assert nn.get_activation(None) is None
    assert nn.get_activation("") is None


def test_activations_compute_their_functions() -> None:
    x = X.asnumpy().astype(np.float64)
    e = np.exp(x)
    softmax = e / e.sum(1, keepdims=True)
    gelu = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    pairs: list[tuple[Cell, NDArray[np.float64]]] = [
        (nn.ReLU(), np.maximum(x, 0)),
        (nn.GELU(), gelu),
        (nn.Tanh(), np.tanh(x)),
        (nn.Sigmoid(), 1 / (1 + np.exp(-x))),
        (nn.Softmax(), softmax),
        (nn.Softmax(axis=0), e / e.sum(0)),
        (nn.LogSoftmax(), np.log(softmax)),
        (nn.Identity(), x),
    ]
    for cell, wanted in pairs:
        assert_allclose(cell(X).asnumpy(), wanted, rtol=1e-5, atol=1e-6)


def test_gelu_has_a_form_with_tanh_and_one_with_erf() -> None:
    x = X.asnumpy()
    wanted = [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x.reshape(-1).tolist()]
    exact = nn.GELU(approximate=False)
    assert_allclose(exact(X).asnumpy().reshape(-1), wanted, rtol=1e-5, atol=1e-7)
    assert np.abs(exact(X).asnumpy() - nn.GELU()(X).asnumpy()).max() > 1e-4
    dense = Dense(3, 2, 0.3, 0.1, activation=nn.GELU(False))
    assert_array_equal(dense(X).asnumpy(), exact(Dense(3, 2, 0.3, 0.1)(X)).asnumpy())
    with pytest.raises(TypeError, match="True or False"):
        nn.GELU(approximate="tanh")  # type: ignore[arg-type]  # the point


def test_flatten_keeps_the_first_dim() -> None:
    x = Tensor(np.arange(24.0).reshape(2, 3, 4))
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(0, 1)(x).shape == (6, 4)
    assert_array_equal(nn.Flatten()(x).asnumpy(), x.asnumpy().reshape(2, 12))


def test_dropout_does_nothing_in_evaluation() -> None:
    assert Dropout(p=0.5)(X) is X
    assert Dropout(p=0.0).set_train()(X) is X


def test_dropout_zeroes_some_and_scales_the_others() -> None:
    ones = Tensor(np.ones((100, 100), np.float32))
    dropped = Dropout(p=0.25).set_train()(ones).asnumpy()
    assert dropped.dtype == np.float32
    assert np.unique(dropped).tolist() == [0.0, np.float32(1 / 0.75)]
    assert abs((dropped == 0).mean() - 0.25) < 0.02
    older = Dropout(keep_prob=0.9).set_train()(ones).asnumpy()
    assert abs((older == 0).mean() - 0.1) < 0.02


def test_dropout_has_the_derivative_of_its_mask() -> None:
    dropout = Dropout(p=0.5).set_train()
    value, gradient = value_and_grad(lambda x: dropout(x))(Tensor(np.ones(50)))
    assert isinstance(value, Tensor)
    assert isinstance(gradient, Tensor)
    assert_array_equal(value.asnumpy(), gradient.asnumpy())


def test_dropout_is_a_function_of_seed_scope_and_order() -> None:
    ones = Tensor(np.ones(100, np.float32))
    dropout = Dropout(p=0.5).set_train()

    def masks(step: int) -> list[object]:
        with random.scope("step", step):
            return [dropout(ones).tolist() for _ in range(2)]

    first = masks(1)
    dropout(ones)
    assert masks(1) == first
    assert first[0] != first[1]
    assert masks(2) != first


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"p": 1.0}, ValueError),
        ({"p": -0.1}, ValueError),
        ({"keep_prob": 0.0}, ValueError),
        ({"keep_prob": 1.1}, ValueError),
        ({"keep_prob": "a"}, TypeError),
        ({"keep_prob": True}, TypeError),
    ],
)
def test_dropout_refuses(settings: dict[str, float], error: type[Exception]) -> None:
    with pytest.raises(error):
        Dropout(**settings)


def test_dropout_prints_what_was_given() -> None:
    assert str(Dropout(p=0.25)) == "Dropout<p=0.25>"
    assert str(Dropout(0.9)) == "Dropout<keep_prob=0.9>"
