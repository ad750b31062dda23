"""Normalised channels against their definition, and against wrong input."""

from collections.abc import Callable

import numpy as np
import pytest
from grads import gradients_of
from hypothesis import assume, given
from hypothesis import strategies as st

from parallel_params import ops
from parallel_params.tensor import Tensor, batch_norm_kernels
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.tape import Array

SHAPES = st.tuples(*[st.integers(1, 4)] * 2) | st.tuples(*[st.integers(1, 4)] * 4)


def _numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(3.0, 2.0, shape)


@given(shape=SHAPES, dtype=st.sampled_from([np.float32, np.float64]))
def test_channels_have_mean_0_and_variance_1(
    shape: tuple[int, ...], dtype: type
) -> None:
    assume(np.prod(shape) // shape[1] > 1)
    dims = (0, *range(2, len(shape)))
    x: Array = _numbers(*shape).astype(dtype)
    out = ops.batch_norm(Tensor(x), None, None, training=True, eps=1e-12).numpy()
    close = 1e-3 if dtype is np.float32 else 1e-9
    assert out.dtype == dtype
    np.testing.assert_allclose(out.mean(dims), 0.0, atol=close)
    np.testing.assert_allclose(out.var(dims), 1.0, atol=close)


@given(shape=SHAPES)
def test_given_moments_make_an_affine_map(shape: tuple[int, ...]) -> None:
    channels = shape[1]
    x = _numbers(*shape)
    mean, var, weight, bias = (_numbers(channels, seed=i) ** 2 for i in range(4))
    out = ops.batch_norm(
        Tensor(x), Tensor(mean), Tensor(var), Tensor(weight), Tensor(bias)
    )
    last = np.moveaxis(x, 1, -1)
    want = np.moveaxis((last - mean) / np.sqrt(var + 1e-5) * weight + bias, -1, 1)
    np.testing.assert_allclose(out.numpy(), want, rtol=1e-12)


def test_running_numbers_move_towards_those_of_the_population() -> None:
    x = _numbers(5, 2, 3)
    mean, var = Tensor(np.zeros(2)), Tensor(np.ones(2))
    ops.batch_norm(Tensor(x), mean, var, training=True, momentum=0.25)
    np.testing.assert_allclose(mean.numpy(), 0.25 * x.mean((0, 2)), rtol=1e-12)
    want = 0.75 + 0.25 * x.var((0, 2), ddof=1)
    np.testing.assert_allclose(var.numpy(), want, rtol=1e-12)


def test_a_large_mean_costs_no_digits() -> None:
    x = (1e4 + _numbers(64, 1, 49, seed=1)).astype(np.float32)
    out = ops.batch_norm(Tensor(x), None, None, training=True).numpy()
    exact = x.astype(np.float64)
    want = (exact - exact.mean()) / np.sqrt(exact.var() + 1e-5)
    np.testing.assert_allclose(out, want, atol=2e-3)  # the spacing of x is 1e-3


def test_blocks_of_samples_change_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, weight = Tensor(_numbers(6, 3, 4)), Tensor(_numbers(3, seed=1))

    def fn(x: Tensor, weight: Tensor) -> Tensor:
        return ops.batch_norm(x, None, None, weight, None, True) ** 3

    whole = gradients_of(fn, x, weight)
    monkeypatch.setattr(batch_norm_kernels, "BLOCK", 1)
    for one, other in zip(gradients_of(fn, x, weight), whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_half_precision_is_normalised_in_single() -> None:
    x = Tensor(_numbers(200, 2).astype(np.float16))
    out = ops.batch_norm(x, None, None, training=True)
    want = ops.batch_norm(x.astype(dtypes.float64), None, None, training=True)
    assert out.dtype == dtypes.float16
    np.testing.assert_allclose(out.numpy(), want.numpy(), atol=2e-3)
    ones = Tensor(np.ones(2, np.float16))
    assert ops.batch_norm(x, ones, ones).dtype == dtypes.float16


X, TWO = Tensor(np.zeros((3, 2, 4))), Tensor(np.zeros(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.batch_norm(TWO, TWO, TWO), r"\[N, C\] or \[N, C, \.\.\.\]"),
        (lambda: ops.batch_norm(X, None, TWO), "running_mean and running_var"),
        (lambda: ops.batch_norm(X[:0], TWO, TWO), r"batch is empty.*\(0, 2, 4\)"),
        (
            lambda: ops.batch_norm(X[:1, :, :1], None, None, training=True),
            r"shape \(1, 2, 1\) has 1 elements per channel",
        ),
        (
            lambda: ops.batch_norm(X, TWO, TWO, Tensor(np.ones(3))),
            r"C = 2 channels \(dim 1\), which numbers of shape \(3,\) do not fit",
        ),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("training", [False, True])
def test_a_weight_of_another_type_is_refused(training: bool) -> None:
    wide, narrow = Tensor(np.ones((4, 2))), Tensor(np.ones(2, np.float32))
    for weight, bias, name in ((narrow, None, "weight"), (None, narrow, "bias")):
        with pytest.raises(TypeError, match=f"Float64 and {name} Float32; they must"):
            ops.batch_norm(wide, TWO, TWO, weight, bias, training)
    half = Tensor(np.arange(8, dtype=np.float16).reshape(4, 2))
    assert ops.batch_norm(half, TWO, TWO, narrow, narrow, training).dtype == half.dtype


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="floating-point elements, not Int64"):
        ops.batch_norm(Tensor(np.zeros((3, 2), int)), TWO, TWO)
