"""Operators where numbers are tiny, huge, equal, infinite or none."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from grads import gradients_of
from kernel_sets import kernels_as

from parallel_params import bfloat16, float16, ops
from parallel_params.tensor import DType, Tensor
from parallel_params.tensor.kernel_set import Choice
from parallel_params.tensor.tape import Array

NAN, INF = math.nan, math.inf
LARGE = 3e38  # two of them are more than float32 holds


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def _slope(operator: Callable[..., Tensor], *numbers: object) -> list[float]:
    """Return the gradient of the first operand."""
    array = np.asarray(numbers, np.float32)
    return [float(g) for g in gradients_of(operator, Tensor(array))[0]]


def test_a_sigmoid_keeps_its_digits_where_it_is_small() -> None:
    x = np.array([-10.0, -30.0, -80.0], np.float32)
    want = 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(ops.sigmoid(Tensor(x)).asnumpy(), want, 1e-6)
    (slope,) = gradients_of(ops.sigmoid, Tensor(x))
    np.testing.assert_allclose(slope, want * (1 - want), 1e-6)
    np.testing.assert_allclose(ops.silu(Tensor(x)).asnumpy(), x * want, 1e-6)
    (slope,) = gradients_of(ops.mish, Tensor(x))
    np.testing.assert_allclose(slope, want * (1 + x), 1e-4)
    assert ops.sigmoid(Tensor([-INF, -1e4, INF])).tolist() == [0.0, 0.0, 1.0]


def test_elu_keeps_the_digits_of_small_numbers() -> None:
    out = ops.elu(Tensor([-1e-8, -1e-30, -200.0, INF, -INF]))
    np.testing.assert_allclose(out.asnumpy(), [-1e-8, -1e-30, -1, INF, -1], 1e-6)
    np.testing.assert_allclose(_slope(ops.elu, -30.0, INF), [math.exp(-30.0), 1], 1e-6)


def test_hardswish_is_flat_on_the_left_and_straight_on_the_right() -> None:
    assert ops.hardswish(Tensor([-INF, -LARGE, 3.0, INF])).tolist() == [0, 0, 3, INF]
    assert _slope(ops.hardswish, -INF, -3.0, 0.0, 3.0, INF) == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("kernels", ["numpy", "fast"])
def test_what_is_no_number_takes_the_gradient_of_the_largest(kernels: Choice) -> None:
    with kernels_as(kernels):
        assert _slope(ops.relu, NAN, 1.0, -1.0, 0.0) == [1.0, 1.0, 0.0, 0.0]
    assert _slope(ops.amax, 1.0, NAN, 2.0) == [0.0, 1.0, 0.0]
    assert _slope(ops.amin, NAN, NAN, 2.0) == [0.5, 0.5, 0.0]
    assert _slope(lambda x: ops.clip_by_value(x, 0.0, 1.0), NAN, 2.0) == [1.0, 0.0]
    of_x, of_y = gradients_of(
        ops.maximum, Tensor([NAN, 1.0, NAN, 1.0]), Tensor([1.0, NAN, NAN, 1.0])
    )
    assert of_x.tolist() == [1.0, 0.0, 0.5, 0.5]
    assert of_y.tolist() == [0.0, 1.0, 0.5, 0.5]
    assert all(math.isnan(g) for op in (ops.abs, ops.elu) for g in _slope(op, NAN))


def test_the_gradient_of_max_along_a_dim_goes_to_the_place_it_names() -> None:
    x = Tensor(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 1.0]], np.float32))
    largest, places = ops.max(x, 1)
    assert (largest.tolist(), places.tolist()) == ([3.0, 2.0], [1, 0])
    (slope,) = gradients_of(lambda x: ops.max(x, 1, keepdims=True)[0], x)
    assert slope.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    (slope,) = gradients_of(lambda x: ops.min(x, 0)[0], x)
    assert slope.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]


def test_roots_of_sums_of_squares_are_flat_at_zero() -> None:
    assert _slope(ops.std, 2.0, 2.0, 2.0) == [0.0, 0.0, 0.0]
    assert _slope(ops.norm, 0.0, 0.0) == [0.0, 0.0]
    assert _slope(ops.norm, 3.0, 4.0) == pytest.approx([0.6, 0.8])


def test_powers_have_gradients_at_zero_and_far_away() -> None:
    assert _slope(lambda x: x**-2, 0.0, LARGE, 2.0) == [-INF, 0.0, -0.25]
    _, of_exponent = gradients_of(
        ops.pow, Tensor([0.0, 0.0, 2.0]), Tensor([-1.0, 2.0, 1.0])
    )
    np.testing.assert_allclose(of_exponent, [-INF, 0.0, 2.0 * math.log(2.0)], 1e-6)


def test_running_sums_are_added_up_in_more_digits() -> None:
    x = np.random.default_rng(3).normal(size=3000) * 50
    for dtype, share in ((np.float32, 1e-7), (np.float16, 5e-4)):
        array = x.astype(dtype)
        want = np.cumsum(array.astype(np.float64))
        out = ops.cumsum(Tensor(array), 0).asnumpy()
        np.testing.assert_allclose(out, want, atol=share * np.abs(want).max())
    assert math.isfinite(ops.cumsum(Tensor([LARGE, LARGE, -LARGE]), 0)[-1].item())


@pytest.mark.parametrize("kernels", ["numpy", "fast"])
def test_logarithms_of_a_softmax_do_not_depend_on_an_offset(kernels: Choice) -> None:
    x = np.random.default_rng(1).integers(-9, 9, (5, 30)).astype(np.float32)
    with kernels_as(kernels):
        near, far = (ops.log_softmax(Tensor(a)).asnumpy() for a in (x, x + 1e6))
    np.testing.assert_allclose(near, far, 1e-6)


def test_smoothed_losses_of_large_logits_do_not_overflow() -> None:
    def loss(row: list[float]) -> float:
        labels = Tensor(np.zeros(1, np.int64))
        return ops.cross_entropy(Tensor([row]), labels, label_smoothing=0.1).item()

    assert loss([LARGE, LARGE, LARGE]) == pytest.approx(math.log(3.0))
    assert loss([1e6, 1e6 + 1.0]) == pytest.approx(loss([0.0, 1.0]))
    assert loss([-INF, 1.0, 2.0]) == INF


@pytest.mark.parametrize("kernels", ["numpy", "fast"])
def test_norms_whose_squares_overflow_are_no_numbers(kernels: Choice) -> None:
    row = Tensor([[LARGE, -LARGE, 1.0]])
    with kernels_as(kernels):
        for operator in (ops.layer_norm, ops.rms_norm):
            assert np.isnan(operator(row, 3).asnumpy()).all()
            assert np.isnan(gradients_of(lambda x, f=operator: f(x, 3), row)[0]).all()
        normed = ops.batch_norm(row.reshape(3, 1), None, None, training=True)
        assert np.isnan(normed.asnumpy()).all()


@pytest.mark.parametrize("row", [[LARGE, LARGE], [1e20, -1e20]])
def test_spreads_whose_sums_or_squares_overflow_are_infinite(row: list[float]) -> None:
    x = Tensor([row])
    for spread in (ops.var, ops.std):
        assert spread(x).item() == INF
        assert spread(x, 1).tolist() == [INF]
    assert ops.var(Tensor([1e30, 1e30])).item() == 0.0


@pytest.mark.parametrize("dtype", [float16, bfloat16])
def test_what_is_no_number_is_the_largest_of_16_bits_too(dtype: DType) -> None:
    _, places = ops.topk(Tensor([1.0, NAN, 2.0]).astype(dtype), 3)
    assert places.tolist() == [1, 2, 0]


@pytest.mark.parametrize("dtype", [float16, bfloat16])
def test_elements_of_16_bits_are_added_up_in_32(dtype: DType) -> None:
    wide = np.random.default_rng(0).normal(size=(500, 3))
    array = Tensor(wide.astype(np.float32)).astype(dtype).asnumpy().astype(np.float64)

    def check(operator: Callable[..., Tensor], want: Array) -> None:
        got = operator(Tensor(array.astype(np.float32)).astype(dtype)).asnumpy()
        np.testing.assert_allclose(got.astype(np.float64), want, 1e-2)

    check(lambda x: ops.var(x, 0), array.var(0))
    check(lambda x: ops.std(x, 0), array.std(0))
    check(lambda x: ops.norm(x * 100.0, None, 0), np.linalg.norm(array * 100, axis=0))
    check(lambda x: ops.softplus(x), np.logaddexp(array, 0))
    (of_bias,) = gradients_of(
        lambda b: Tensor(np.ones((999, 3), np.float32)).astype(dtype) * b,
        Tensor(np.ones(3, np.float32)).astype(dtype),
    )
    np.testing.assert_allclose(of_bias.astype(np.float64), 999.0, 4e-3)


def test_a_squared_error_of_two_numbers_is_a_number() -> None:
    x, y = Tensor(3.0), Tensor(1.0)
    assert ops.mse_loss(x, y).item() == 4.0
    assert [float(g) for g in gradients_of(ops.mse_loss, x, y)] == [4.0, -4.0]
