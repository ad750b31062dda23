"""Products of few rows in compiled loops: NumPy's numbers, bits of each row alone."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import pytest
from kernel_sets import CLOSE, kernels_as
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_limits

from parallel_params.tensor import dense_kernels as kernels
from parallel_params.tensor.tape import Array

DType: TypeAlias = "np.dtype[Any]"
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
AVX2 = {"Haswell", "Zen"}  # what OpenBLAS calls its kernels for it
# Rows, in, out: whole panels, chunks and bands, and what is left of each.
SHAPES = [(1, 16, 8), (7, 256, 48), (16, 272, 56), (33, 528, 8), (64, 2064, 104)]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Choose the compiled set, which then takes weights of any size."""
    with kernels_as("fast"):
        from parallel_params.tensor.fast import dense

        monkeypatch.setattr(dense, "LEAST_READ", 0)
        monkeypatch.setattr(dense, "LEAST_WRITTEN", 0)
        monkeypatch.setattr(dense, "is_beaten", lambda: True)
        monkeypatch.setattr(kernels.times_weight, "numpy", _is_not_taken)
        monkeypatch.setattr(kernels.weight_grad, "numpy", _is_not_taken)
        yield


def _is_not_taken(*_: object) -> None:
    raise AssertionError("the loops left this to NumPy")


def drawn(shape: tuple[int, int, int], dtype: DType) -> tuple[Array, Array, Array]:
    """Return rows [rows, in], a weight [out, in] and a gradient [rows, out]."""
    rows, width, num = shape
    rng = np.random.default_rng(0)
    x, w, g = (
        rng.standard_normal(size).astype(dtype)
        for size in ((rows, width), (num, width), (rows, num))
    )
    return x, w, g


def is_close(got: Array, want: Array) -> None:
    """Hold both to what the table in docs/kernels.md promises."""
    scale = float(np.abs(want).max())
    assert_allclose(got, want, 0, CLOSE[want.dtype.name] * scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_close_to_those_of_numpy(
    shape: tuple[int, int, int], dtype: DType
) -> None:
    x, w, g = drawn(shape, dtype)
    is_close(kernels.times_weight(x, w), x @ w.T)
    is_close(kernels.weight_grad(g, x, None), g.T @ x)


def test_sums_run_in_order() -> None:
    from parallel_params.tensor.fast.dense_loops import DEPTH

    x, w, g = drawn((5, 528, 56), np.dtype(np.float32))
    by_weight = in_order(x[:, :DEPTH], w[:, :DEPTH])
    for k in range(DEPTH, x.shape[1], DEPTH):
        by_weight += in_order(x[:, k : k + DEPTH], w[:, k : k + DEPTH])
    is_same(kernels.times_weight(x, w), by_weight)
    is_same(kernels.weight_grad(g, x, None), in_order(g.T, x.T))


def in_order(a: Array, b: Array) -> Array:
    """Return a @ b.T, each product and its sum rounded once."""
    total = np.zeros((len(a), len(b)), np.float32)
    for k in range(a.shape[1]):
        # In float64 a product of two float32 is exact.
        exact = np.outer(a[:, k].astype(np.float64), b[:, k])
        total = (total + exact).astype(np.float32)
    return total


def is_same(got: Array, want: Array) -> None:
    """Allow for the few sums that float64 rounds before float32 does."""
    assert np.mean(got != want) < 1e-4


def test_a_row_has_the_same_bits_alone() -> None:
    x, w, _ = drawn((33, 528, 56), np.dtype(np.float32))
    whole = kernels.times_weight(x, w)
    for row in (0, 15, 16, 32):
        assert_array_equal(kernels.times_weight(x[row : row + 1], w)[0], whole[row])


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gradient_is_written_where_it_lies_and_nowhere_else(
    offset: int, dtype: DType
) -> None:
    x, _, g = drawn((7, 272, 56), dtype)
    want = kernels.weight_grad(g, x, None)
    memory = np.full(want.size + 64, 5, dtype)
    out = memory[32 + offset :][: want.size].reshape(want.shape)
    assert kernels.weight_grad(g, x, out) is out
    assert_array_equal(out, want)
    out[...] = 5
    assert_array_equal(memory, np.full_like(memory, 5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_loops_write_no_row_that_is_none(dtype: DType) -> None:
    from parallel_params.tensor.fast import dense_loops
    from parallel_params.tensor.fast.scratch import matrix
    from parallel_params.tensor.fast.scratch import memory as room

    x, w, _ = drawn((13, 272, 56), dtype)
    memory = np.full((15, 56), 5, dtype)
    scratch = room(16 * 272, dtype), matrix(dense_loops.BAND, 16, dtype)
    dense_loops.times_weight(x, w, *scratch, memory[1:-1])
    assert_array_equal(memory[[0, -1]], np.full((2, 56), 5, dtype))
    assert_array_equal(memory[1:-1], kernels.times_weight(x, w))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_stays_where_it_belongs(wrong: float) -> None:
    x, w, g = drawn((13, 272, 56), np.dtype(np.float32))
    x[12, 271] = wrong  # the last row, which fills the last panel
    w[:, 271] = 1
    out = kernels.times_weight(x, w)
    assert np.isfinite(out[:-1]).all()
    assert_array_equal(out[-1], np.full(56, wrong))
    g[:] = 1
    grad = kernels.weight_grad(g, x, None)
    assert np.isfinite(grad[:, :-1]).all()
    assert_array_equal(grad[:, -1], np.full(56, wrong))


def test_the_rest_is_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    from parallel_params.tensor.fast import dense, dense_loops

    monkeypatch.undo()
    taken: list[str] = []
    for name in ("times_weight", "weight_grad"):
        monkeypatch.setattr(dense_loops, name, lambda *_, own=name: taken.append(own))
    with kernels_as("fast"):
        x, w, g = drawn((4, 16, 8), np.dtype(np.float32))
        is_close(kernels.times_weight(x, w), x @ w.T)  # small
        is_close(kernels.weight_grad(g, x, None), g.T @ x)
        monkeypatch.setattr(dense, "LEAST_READ", 0)
        monkeypatch.setattr(dense, "LEAST_WRITTEN", 0)
        monkeypatch.setattr(dense, "is_beaten", lambda: True)
        for x, w, g in (
            drawn((dense.MOST_ROWS + 1, 16, 8), np.dtype(np.float32)),  # many rows
            drawn((4, 17, 9), np.dtype(np.float32)),  # no whole vectors
            tuple(a[:, ::2] for a in drawn((4, 32, 16), np.dtype(np.float32))),
        ):
            is_close(kernels.times_weight(x, w), x @ w.T)
            is_close(kernels.weight_grad(g, x, None), g.T @ x)
        empty = kernels.times_weight(np.empty((0, 16), "f4"), np.empty((8, 16), "f4"))
        assert empty.shape == (0, 8)
    assert taken == []


@pytest.mark.parametrize(
    ("kernels_of", "num_threads", "is_taken"),
    [("Haswell", 1, True), ("Zen", 1, True), ("Zen", 2, False), ("SkylakeX", 1, False)],
)
def test_products_are_left_to_a_blas_that_is_faster(
    kernels_of: str, num_threads: int, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parallel_params.tensor.fast import beside_blas, dense

    pool = SimpleNamespace(architecture=kernels_of, num_threads=num_threads)
    monkeypatch.setattr(beside_blas, "_pools", lambda: (pool,))
    monkeypatch.setattr(dense, "is_beaten", beside_blas.is_beaten)
    left: list[object] = []
    for kernel in (kernels.times_weight, kernels.weight_grad):
        monkeypatch.setattr(kernel, "numpy", lambda *_, own=kernel: left.append(own))
    x, w, g = drawn((4, 16, 8), np.dtype(np.float32))
    kernels.times_weight(x, w)
    kernels.weight_grad(g, x, None)
    assert left == ([] if is_taken else [kernels.times_weight, kernels.weight_grad])


def test_products_are_left_to_a_blas_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from parallel_params.tensor.fast import beside_blas

    monkeypatch.setattr(beside_blas, "_pools", tuple)
    assert not beside_blas.is_beaten()


def test_the_threads_of_blas_are_those_of_now() -> None:
    from parallel_params.tensor.fast import beside_blas

    kernels_of = {pool.architecture for pool in beside_blas._pools()}
    with blas_of(1):
        assert beside_blas.is_beaten() == bool(kernels_of <= AVX2 and kernels_of)
    with blas_of(2):
        assert not beside_blas.is_beaten()


def blas_of(num_threads: int) -> AbstractContextManager[object]:
    """Give BLAS this number of threads in a block."""
    return threadpool_limits(num_threads)  # type: ignore[no-any-return]  # threadpoolctl's
