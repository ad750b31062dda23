"""The compiled kernels: attention whole, what is no number, what they do not take."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pytest
from grads import gradients_of
from kernel_sets import CLOSE, kernels_as, normal
from numpy.typing import NDArray

from parallel_params import ops
from parallel_params.tensor import (
    DType,
    Tensor,
    embedding_kernels,
    float32,
    float64,
    kernels,
    softmax_kernels,
    value_and_grad,
)
from parallel_params.tensor.erf import erf_gelu

Array: TypeAlias = NDArray[Any]
Body: TypeAlias = Callable[
    [np.random.Generator, int, int, "np.dtype[Any]"], list[Array]
]


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with kernels_as("fast"):
        yield


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("length", [70, 200], ids=["one tile", "two"])
def test_attention_is_close_to_numpy_and_blind_queries_get_zeros(
    dtype: DType, is_causal: bool, length: int
) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 3, length, 9)
    q, k, v = (Tensor(rng.standard_normal(shape), dtype) for _ in range(3))
    bias = np.zeros((length, length))
    bias[:, 5] = -200.0  # underflows beside the others
    bias[3] = -np.inf  # sees nothing
    mask = Tensor(bias, dtype)

    def outcome() -> list[Array]:
        attend = partial(
            ops.scaled_dot_product_attention, attn_mask=mask, is_causal=is_causal
        )
        if is_causal:
            attend = partial(ops.scaled_dot_product_attention, is_causal=True)
        out, grads = value_and_grad(attend, (0, 1, 2))(q, k, v)
        assert isinstance(out, Tensor)
        assert isinstance(grads, tuple)
        return [out.asnumpy(), *(grad.asnumpy() for grad in grads)]  # type: ignore[union-attr]

    fast = outcome()
    with kernels_as("numpy"):
        plain = outcome()
    if not is_causal:
        assert not fast[0][:, :, 3].any()
    for got, want in zip(fast, plain, strict=True):
        np.testing.assert_allclose(got, want, 0, CLOSE[got.dtype.name])


def test_a_number_that_is_none_goes_through_gelu_and_relu() -> None:
    x = np.array([[np.nan, np.inf, 2.0, -2.0]], np.float32)
    slope, zeros = np.empty_like(x), np.zeros(4, np.float32)
    kernels.bias_gelu(x.copy(), zeros, slope)
    assert np.isnan(slope[0, 0])
    kernels.bias_relu(x, zeros)
    np.testing.assert_array_equal(x, [[np.nan, np.inf, 2.0, 0.0]])
    slope = kernels.relu_slope(x, np.full_like(x, np.nan))
    assert np.isnan(slope).all()


def test_a_row_that_is_not_there_is_an_error_and_no_stray_write() -> None:
    g, out = np.ones((2, 3), np.float32), np.zeros((4, 3), np.float32)
    with pytest.raises(IndexError):
        embedding_kernels.add_rows(np.array([1, 4]), g, out)


def test_what_loops_cannot_take_goes_to_numpy() -> None:
    rng = np.random.default_rng(0)
    half = normal(rng, (4, 6), np.dtype(np.float16))
    strided = normal(rng, (4, 12), np.dtype(np.float32))[:, ::2]
    for x in (half, strided):
        bias = x[0].copy()
        got, want = x.copy(order="K"), x.copy(order="K")
        kernels.add_bias(got, bias)
        kernels.add_bias.numpy(want, bias)
        np.testing.assert_array_equal(got, want)
    empty = np.empty((0, 5), np.float32)
    softmax_kernels.softmax(empty, empty)
    kernels.gelu(empty, empty, None)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("has_slope", [False, True])
def test_gelu_by_the_error_function_is_close_to_numpy_wherever_it_is_cut(
    dtype: DType, has_slope: bool
) -> None:
    edges = [0.0, -0.0, np.nan, -6.0, 0.66, -0.67, 9.0, -100.0, 1e-30]
    x = np.append(edges, np.linspace(-7.0, 7.0, 203)).astype(dtype.numpy)

    def outcome(array: Array) -> Array:
        out, slope = np.empty_like(array), np.zeros_like(array)
        erf_gelu(array, out, slope if has_slope else None)
        return np.stack([out, slope])

    fast = outcome(x)
    with kernels_as("numpy"):
        plain = outcome(x)
    np.testing.assert_allclose(fast, plain, 0, CLOSE[x.dtype.name])
    parts = [outcome(x[start : start + 7].copy()) for start in range(0, x.size, 7)]
    np.testing.assert_array_equal(fast, np.concatenate(parts, axis=1))


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("width", [1, 7, 8, 33])
def test_batch_norm_is_close_to_numpy(dtype: DType, width: int) -> None:
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((5, 3, width)) + 2.0, dtype)
    seed = Tensor(rng.standard_normal((5, 3, width)), dtype)
    weight, bias = (Tensor(rng.standard_normal(3), dtype) for _ in range(2))

    def outcome() -> list[Array]:
        def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return ops.batch_norm(x, None, None, weight, bias, training=True)

        parts = gradients_of(normed, x, weight, bias, seed=seed)
        return [normed(x, weight, bias).asnumpy(), *parts]

    fast = outcome()
    with kernels_as("numpy"):
        plain = outcome()
    for got, want in zip(fast, plain, strict=True):
        bound = 2 * CLOSE[got.dtype.name] * np.abs(want).max()
        np.testing.assert_allclose(got, want, 0, bound)
