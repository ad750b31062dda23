"""Pools against windows taken one by one, against PyTorch, and against wrong input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from grads import gradients_of
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_sets import kernels_as

from parallel_params import ops
from parallel_params.tensor import Tensor, pool_kernels
from parallel_params.tensor.frame import Frame
from parallel_params.tensor.tape import Array
from parallel_params.tensor.window import Window


def _ties(*shape: int, seed: int = 0) -> Array:
    """Return small whole numbers, as many as zero: maxima are seldom alone."""
    return np.random.default_rng(seed).integers(-2, 3, shape).clip(0).astype(np.float64)


@st.composite
def settings_of_pools(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Draw the shape of an input and the window of a pool that fits."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    shape = draw(st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 8)] * 2))
    kernel, stride = draw(pair), draw(pair)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    for i in range(2):
        assume(shape[2 + i] + 2 * padding[i] >= kernel[i])
    return shape, {"kernel_size": kernel, "stride": stride, "padding": padding}


def _windows(x: Array, window: dict[str, Any], value: float) -> Array:
    """Return [N, C, OH, OW, KH * KW]."""
    (kh, kw), (sh, sw), (ph, pw) = window.values()
    pads = ((0, 0), (0, 0), (ph, ph), (pw, pw))
    x = np.pad(x, pads, constant_values=value)
    view = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (2, 3))[..., :, :]
    picked = view[:, :, ::sh, ::sw]
    return picked.reshape(*picked.shape[:4], kh * kw)


@given(case=settings_of_pools())
def test_pools_take_every_window(case: tuple[tuple[int, ...], dict[str, Any]]) -> None:
    shape, window = case
    x = _ties(*shape)
    largest = _windows(x, window, -np.inf).max(-1)
    np.testing.assert_array_equal(ops.max_pool2d(Tensor(x), **window).numpy(), largest)
    mean = _windows(x, window, 0.0).mean(-1)
    found = ops.avg_pool2d(Tensor(x), **window).numpy()
    np.testing.assert_allclose(found, mean, atol=1e-15)
    inside = np.nanmean(_windows(x, window, np.nan), -1)
    found = ops.avg_pool2d(Tensor(x), **window, count_include_pad=False).numpy()
    np.testing.assert_allclose(found, inside, atol=1e-15)


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
@given(case=settings_of_pools())
def test_values_and_gradients_are_pytorchs_also_where_elements_are_equal(
    name: str, case: tuple[tuple[int, ...], dict[str, Any]]
) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    shape, window = case
    theirs = torch.tensor(_ties(*shape), requires_grad=True)
    want = getattr(torch.nn.functional, name)(theirs, *window.values())
    seed = np.random.default_rng(1).standard_normal(tuple(want.shape))
    (want * torch.tensor(seed)).sum().backward()

    def fn(x: Tensor) -> Tensor:
        out: Tensor = getattr(ops, name)(x, **window)
        return out

    x = Tensor(_ties(*shape))
    (grad,) = gradients_of(fn, x, seed=Tensor(seed))
    np.testing.assert_allclose(fn(x).numpy(), want.detach().numpy(), atol=1e-14)
    np.testing.assert_allclose(grad, theirs.grad.numpy(), atol=1e-14)


@pytest.mark.parametrize("size", [1, 3, (2, 5), (7, 9)])
def test_adaptive_means_are_pytorchs(size: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 9))
    want = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x), size)
    found = ops.adaptive_avg_pool2d(Tensor(x), size)
    np.testing.assert_allclose(found.numpy(), want.numpy(), atol=1e-14)


def test_one_dim_is_two_dims_of_which_one_is_1() -> None:
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 9)))
    wide = x.expand_dims(2)
    pairs = [
        (
            ops.max_pool1d(x, 3, 2, 1, 2),
            ops.max_pool2d(wide, (1, 3), (1, 2), (0, 1), 2),
        ),
        (ops.avg_pool1d(x, 3, 2, 1), ops.avg_pool2d(wide, (1, 3), (1, 2), (0, 1))),
        (ops.adaptive_avg_pool1d(x, 4), ops.adaptive_avg_pool2d(wide, (1, 4))),
    ]
    for one, two in pairs:
        np.testing.assert_allclose(one.numpy(), two.numpy()[:, :, 0], atol=1e-15)


def test_same_padding_keeps_the_size_at_stride_1() -> None:
    x = Tensor(_ties(1, 1, 5, 6))
    assert ops.max_pool2d(x, (2, 3), 1, pad_mode="same").shape == x.shape
    assert ops.avg_pool2d(x, 3, 2, pad_mode="same").shape == (1, 1, 3, 3)


def test_blocks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x = Tensor(_ties(3, 4, 6, 6))

    def run() -> list[list[object]]:
        fns: list[Callable[[Tensor], Tensor]] = [
            lambda x: ops.max_pool2d(x, 3, 2, 1),
            lambda x: ops.avg_pool2d(x, 2, 2),
        ]
        return [[fn(x).tolist(), gradients_of(fn, x)[0].tolist()] for fn in fns]

    whole = run()
    monkeypatch.setattr(pool_kernels, "BLOCK", 1)
    assert run() == whole


def test_a_window_may_have_more_elements_than_a_byte_counts() -> None:
    x = Tensor(np.arange(600.0).reshape(1, 1, 600))
    (grad,) = gradients_of(lambda x: ops.max_pool1d(x, 300), x)
    assert np.flatnonzero(grad).tolist() == [299, 599]


def test_an_inner_frame_takes_the_largest_elements_apart() -> None:
    x = Tensor(np.random.default_rng(0).permutation(64).reshape(1, 1, 8, 8) * 0.1)
    (fused,) = gradients_of(lambda x: ops.max_pool2d(x, 3, 2, 1) ** 2, x)
    with Frame():
        (plain,) = gradients_of(lambda x: ops.max_pool2d(x, 3, 2, 1) ** 2, x)
    np.testing.assert_allclose(fused, plain, atol=1e-12)


def test_a_batch_may_be_empty() -> None:
    empty = Tensor(np.zeros((0, 3, 4, 4)))
    assert ops.max_pool2d(empty, 2).shape == (0, 3, 2, 2)
    (grad,) = gradients_of(lambda x: ops.avg_pool2d(x, 2, 2), empty)
    assert grad.shape == empty.shape


X = Tensor(np.zeros((1, 2, 4, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.max_pool2d(X[0], 2), r"max_pool2d: the input is \[N, C, H, W\]"),
        (lambda: ops.max_pool2d(X[:, :, :0], 2), r"not of shape \(1, 2, 0, 4\)"),
        (lambda: ops.avg_pool1d(X, 2), r"avg_pool1d: the input is \[N, C, L\]"),
        (
            lambda: ops.max_pool2d(X, 5),
            "kernel spans 5 elements of dim 2 .* input has 4",
        ),
        (lambda: ops.max_pool2d(X, 2, 0), "stride is at least 1"),
        (lambda: ops.max_pool2d(X, 0), "kernel_size is at least 1"),
        (lambda: ops.max_pool2d(X, 2, 2, 2), "padding 2 is more than half"),
        (lambda: ops.avg_pool2d(X, 2, 1, 1, pad_mode="same"), "it must be 0"),
        (lambda: ops.adaptive_avg_pool2d(X, 0), "output_size is at least 1"),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="max_pool2d takes floating-point elements"):
        ops.max_pool2d(Tensor(np.zeros((1, 1, 2, 2), int)), 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5, 1), (2, 4, 9), (1, 1, 1)])
def test_compiled_pairs_have_the_bits_of_numpy(
    shape: tuple[int, int, int], dtype: type
) -> None:
    rng = np.random.default_rng(1)
    outer, count, inner = shape
    window = Window(length=2 * count, kernel=2, stride=2)
    x: Array = rng.integers(-2, 3, (outer, 2 * count, inner)).astype(dtype)
    x[rng.random(x.shape) < 0.1] = np.nan
    g: Array = rng.standard_normal(shape).astype(dtype)
    found = []
    for name in ("numpy", "fast"):
        out: Array = np.empty(shape, dtype)
        dx = np.empty_like(x)
        choice = np.empty(shape, np.uint8)
        with kernels_as(name):
            pool_kernels.max_along(x, window, out, choice)
            pool_kernels.max_along_grad(g, choice, window, dx)
        found.append((out, choice, dx))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
