"""The layers that a transformer is made of: settings, names, shapes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params import nn
from parallel_params.tensor import Tensor, random
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.tape import Array


def _draw(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _shapes(cell: nn.Cell) -> dict[str, tuple[int, ...]]:
    return {path: p.shape for path, p in cell.parameters_and_names()}


# ---- embedding


def test_an_embedding_looks_rows_up() -> None:
    cell = nn.Embedding(5, 3)
    assert _shapes(cell) == {"embedding_table": (5, 3)}
    out = cell(Tensor([[4, 0]]))
    assert_array_equal(out.asnumpy()[0], cell.embedding_table.asnumpy()[[4, 0]])
    assert "vocab_size=5, embedding_size=3" in str(cell)


def test_the_padding_row_of_an_embedding_is_zero() -> None:
    random.set_seed(3)
    plain = nn.Embedding(5, 3).embedding_table.asnumpy()
    random.set_seed(3)
    padded = nn.Embedding(5, 3, padding_idx=2).embedding_table.asnumpy()
    assert padded[2].tolist() == [0.0] * 3
    assert_array_equal(np.delete(padded, 2, 0), np.delete(plain, 2, 0))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ((0, 3), ValueError),
        ((3, 0), ValueError),
        ((3.0, 3), TypeError),
        ((3, True), TypeError),
        ((3, 3, 1), TypeError),
        ((3, 3, False, "unknown"), ValueError),
        ((3, 3, False, Tensor([[1.0]])), ValueError),
        ((3, 3, False, "normal", dtypes.float32, 3), ValueError),
        ((3, 3, False, "normal", dtypes.float32, -1), ValueError),
    ],
)
def test_an_embedding_refuses(
    settings: tuple[int, int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        nn.Embedding(*settings)


# ---- norms


def test_norms_have_their_parameters() -> None:
    assert _shapes(nn.LayerNorm(4)) == {"gamma": (4,), "beta": (4,)}
    assert _shapes(nn.LayerNorm((3, 4), has_bias=False)) == {"gamma": (3, 4)}
    assert _shapes(nn.RMSNorm([4])) == {"gamma": (4,)}
    assert nn.RMSNorm(4, dtype=dtypes.float64).gamma.dtype is dtypes.float64


def test_norms_compute_their_functions() -> None:
    x = _draw(5, 8)
    centred = x - x.mean(1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 0.1)
    cell = nn.LayerNorm([8], gamma_init=2.0, beta_init=0.5, epsilon=0.1)
    assert_allclose(cell(Tensor(x)).asnumpy(), 2.0 * wanted + 0.5, 1e-5, 1e-6)
    wanted = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
    assert_allclose(nn.RMSNorm(8)(Tensor(x)).asnumpy(), wanted, 1e-5, 1e-6)
    assert "normalized_shape=(8,), epsilon=0.1" in str(cell)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"normalized_shape": 0}, ValueError),
        ({"normalized_shape": ()}, TypeError),
        ({"normalized_shape": 2.0}, TypeError),
        ({"normalized_shape": 4, "epsilon": -1.0}, ValueError),
        ({"normalized_shape": 4, "epsilon": "a"}, TypeError),
        ({"normalized_shape": 4, "gamma_init": Tensor([1.0])}, ValueError),
    ],
)
@pytest.mark.parametrize("cell", [nn.LayerNorm, nn.RMSNorm])
def test_norms_refuse(
    cell: type[nn.Cell], settings: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        cell(**settings)  # type: ignore[arg-type]  # the point


def test_layer_norm_refuses_an_axis_that_is_not_where_the_shape_begins() -> None:
    nn.LayerNorm((3, 4), -2, -2)
    with pytest.raises(ValueError, match="begin_norm_axis is -2, where"):
        nn.LayerNorm((3, 4), -3)
