"""The compiled kernels beside NumPy's: bits where they promise them, else close.

Every pair gets the same numbers: sizes around whole vector registers, signs, zeros,
and, where that is the point, what is not finite.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest
from kernel_sets import CLOSE, kernels_as, normal
from numpy.typing import NDArray

from parallel_params.tensor import (
    embedding_kernels,
    kernels,
    norm_kernels,
    softmax_kernels,
)
from parallel_params.tensor.kernel_set import Kernel

Array: TypeAlias = NDArray[Any]
Body: TypeAlias = Callable[
    [np.random.Generator, int, int, "np.dtype[Any]"], list[Array]
]

SIZES = [(1, 1), (3, 7), (5, 8), (4, 33), (2, 103)]
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with kernels_as("fast"):
        yield


def in_place(kernel: Kernel[..., Any], num_more: int = 0) -> tuple[Body, Body]:
    """Return both forms of a kernel of (x, bias, more outputs), which writes to x."""

    def body(form: Callable[..., object]) -> Body:
        def run(
            rng: np.random.Generator, rows: int, width: int, dtype: "np.dtype[Any]"
        ) -> list[Array]:
            x, bias = normal(rng, (rows, width), dtype), normal(rng, width, dtype)
            more = [np.empty_like(x) for _ in range(num_more)]
            form(x, bias, *more)
            return [x, *more]

        return run

    return body(kernel.run), body(kernel.numpy)


def of_rows(kernel: Kernel[..., Any], num_out: int = 1) -> Callable[..., Body]:
    """Return what makes a body of a form of (x, outputs)."""

    def body(form: Callable[..., object]) -> Body:
        def run(
            rng: np.random.Generator, rows: int, width: int, dtype: "np.dtype[Any]"
        ) -> list[Array]:
            x = normal(rng, (rows, width), dtype)
            outputs = [np.empty_like(x) for _ in range(num_out)]
            form(x, *outputs)
            return outputs

        return run

    return body


def cross_entropy(form: Callable[..., Array]) -> Body:
    def run(
        rng: np.random.Generator, rows: int, width: int, dtype: "np.dtype[Any]"
    ) -> list[Array]:
        x, labels = normal(rng, (rows, width), dtype), rng.integers(0, width, rows)
        grad = np.empty_like(x)
        return [form(x, labels.astype(np.uint8), grad, 0.3), grad]

    return run


@pytest.mark.parametrize("wrong", [-1, 4, -(2**63), 2**63])
@pytest.mark.parametrize("is_fast", [False, True])
def test_a_label_out_of_range_is_found_before_anything_is_written(
    wrong: int, is_fast: bool
) -> None:
    kernel = softmax_kernels.cross_entropy_sum
    labels = np.array([0, wrong], np.int64 if wrong < 2**63 else np.uint64)
    x, grad = np.zeros((2, 4), np.float32), np.full((2, 4), 5, np.float32)
    for into in (grad, x):
        before = into.copy()
        assert (kernel.run if is_fast else kernel.numpy)(x, labels, into, 1.0) is None
        np.testing.assert_array_equal(into, before)


def norm(has_mean: bool, has_weight: bool) -> Callable[..., Body]:
    """Return what makes a body of the forms of a norm and its gradients."""

    def body(forms: tuple[Callable[..., object], Callable[..., object]]) -> Body:
        def run(
            rng: np.random.Generator, rows: int, width: int, dtype: "np.dtype[Any]"
        ) -> list[Array]:
            x, g = (normal(rng, (rows, width), dtype) for _ in range(2))
            w, b = (normal(rng, width, dtype) if has_weight else None for _ in range(2))
            out, scale = np.empty_like(x), np.empty(rows, dtype)
            mean = np.empty(rows, dtype) if has_mean else None
            forms[0](x, w, b, 0.1, out, mean, scale)
            dx, dw, db = (
                np.empty_like(x),
                np.empty(width, dtype),
                np.empty(width, dtype),
            )
            forms[1](g, x, w, mean, scale, dx, dw, db)
            forms[1](g, x, w, mean, scale, None, None, db)
            return [out, scale, dx, dw, db]

        return run

    return body


def pair(kernel: Kernel[..., Any], body: Callable[..., Body]) -> tuple[Body, Body]:
    return body(kernel.run), body(kernel.numpy)


def norm_pair(has_mean: bool, has_weight: bool) -> tuple[Body, Body]:
    body = norm(has_mean, has_weight)
    both = norm_kernels.norm, norm_kernels.norm_grads
    return body(tuple(k.run for k in both)), body(tuple(k.numpy for k in both))


def relu_slope(form: Callable[..., Array]) -> Body:
    def run(
        rng: np.random.Generator, rows: int, width: int, dtype: "np.dtype[Any]"
    ) -> list[Array]:
        out = np.maximum(normal(rng, (rows, width), dtype), 0)
        return [form(out, normal(rng, (rows, width), dtype))]

    return run


def sum_of_rows(form: Callable[..., Array]) -> Body:
    def run(
        rng: np.random.Generator, rows: int, width: int, dtype: "np.dtype[Any]"
    ) -> list[Array]:
        # Rows of one element NumPy may add in another order.
        x = normal(rng, (7 * rows, width + 1), dtype)
        into = np.full(width + 1, np.nan, dtype)
        assert form(x, into) is into
        return [into, form(x, None)]

    return run


def add_rows(form: Callable[..., None]) -> Body:
    def run(
        rng: np.random.Generator, rows: int, width: int, dtype: "np.dtype[Any]"
    ) -> list[Array]:
        # Rows of one element NumPy may add in another order.
        g = normal(rng, (7 * rows, width + 1), dtype)
        out = np.full((4, width + 1), np.nan, dtype)
        form(rng.integers(0, 4, len(g)), g, out)
        return [out]

    return run


SAME_BITS: dict[str, Callable[[], tuple[Body, Body]]] = {
    "add_bias": lambda: in_place(kernels.add_bias),
    "bias_relu": lambda: in_place(kernels.bias_relu),
    "relu_slope": lambda: pair(kernels.relu_slope, relu_slope),
    "sum_of_rows": lambda: pair(kernels.sum_of_rows, sum_of_rows),
    "add_rows": lambda: pair(embedding_kernels.add_rows, add_rows),
}
NEARLY: dict[str, Callable[[], tuple[Body, Body]]] = {
    "gelu": lambda: pair(kernels.gelu, of_rows(kernels.gelu, 2)),
    "bias_gelu": lambda: in_place(kernels.bias_gelu, 1),
    "softmax": lambda: pair(softmax_kernels.softmax, of_rows(softmax_kernels.softmax)),
    "log_softmax": lambda: pair(
        softmax_kernels.log_softmax, of_rows(softmax_kernels.log_softmax)
    ),
    "cross_entropy": lambda: pair(softmax_kernels.cross_entropy, cross_entropy),
    "cross_entropy_sum": lambda: pair(softmax_kernels.cross_entropy_sum, cross_entropy),
    "layer norm": lambda: norm_pair(True, True),
    "layer norm, bare": lambda: norm_pair(True, False),
    "RMS norm": lambda: norm_pair(False, True),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SAME_BITS)
def test_loops_without_sums_have_the_bits_of_numpy(
    name: str, dtype: "np.dtype[Any]"
) -> None:
    fast, plain = SAME_BITS[name]()
    for rows, width in SIZES:
        got = fast(np.random.default_rng(width), rows, width, dtype)
        want = plain(np.random.default_rng(width), rows, width, dtype)
        for array, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NEARLY)
def test_loops_are_close_to_numpy(name: str, dtype: "np.dtype[Any]") -> None:
    fast, plain = NEARLY[name]()
    for rows, width in SIZES:
        got = fast(np.random.default_rng(width), rows, width, dtype)
        want = plain(np.random.default_rng(width), rows, width, dtype)
        for array, other in zip(got, want, strict=True):
            scale = max(1.0, float(np.abs(other).max()))
            np.testing.assert_allclose(array, other, 0, CLOSE[dtype.name] * scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_have_the_same_bits_alone_and_among_others(dtype: "np.dtype[Any]") -> None:
    rng = np.random.default_rng(0)
    x, bias = normal(rng, (9, 45), dtype), normal(rng, 45, dtype)
    whole, slope = x.copy(), np.empty_like(x)
    kernels.bias_gelu(whole, bias, slope)
    soft = np.empty_like(x)
    softmax_kernels.softmax(x, soft)
    for i in range(9):
        row, steep, alone = x[i : i + 1].copy(), np.empty((1, 45), dtype), x[:1].copy()
        softmax_kernels.softmax(row, alone)
        kernels.bias_gelu(row, bias, steep)
        np.testing.assert_array_equal(row[0], whole[i])
        np.testing.assert_array_equal(steep[0], slope[i])
        np.testing.assert_array_equal(alone[0], soft[i])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_elements_have_the_same_bits_wherever_an_array_is_cut(
    dtype: "np.dtype[Any]",
) -> None:
    x = normal(np.random.default_rng(0), 70, dtype)
    whole, slope = np.empty_like(x), np.empty_like(x)
    kernels.gelu(x, whole, slope)
    for cut in range(71):
        parts, steep = np.empty_like(x), np.empty_like(x)
        for part in (slice(0, cut), slice(cut, 70)):
            kernels.gelu(x[part], parts[part], steep[part])
        np.testing.assert_array_equal(parts, whole)
        np.testing.assert_array_equal(steep, slope)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_exponential_is_within_one_unit_and_keeps_what_is_not_finite(
    dtype: "np.dtype[Any]",
) -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((4000, 2), dtype)
    # exp(x) / (1 + exp(x)) where exp(x) is far below one is exp(x), nearly.
    x[:, 0] = rng.uniform(-85.0, -30.0 if dtype == np.float32 else -45.0, 4000)
    out = np.empty_like(x)
    softmax_kernels.softmax(x, out)
    want = np.exp(x[:, 0].astype(np.longdouble))
    error = np.abs(out[:, 0] - want) / np.spacing(want.astype(dtype))
    assert error.max() < 1.0
    odd = np.array([[np.nan, 0], [0, np.nan], [-np.inf, 0], [-1e9, 0]], dtype)
    softmax_kernels.softmax(odd, odd_out := np.empty_like(odd))
    assert np.isnan(odd_out[:2]).all()
    np.testing.assert_array_equal(odd_out[2:], [[0, 1], [0, 1]])
