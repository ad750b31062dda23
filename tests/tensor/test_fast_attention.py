"""Attention in compiled loops: NumPy's numbers, bits that depend on the head alone."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest
from kernel_sets import CLOSE, kernels_as
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params.tensor import attention_kernels as kernels
from parallel_params.tensor.attention_tiles import Heads, Scheme
from parallel_params.tensor.tape import Array

DType: TypeAlias = "np.dtype[Any]"
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
# Heads, heads of keys, queries, keys, width, width of values.
SHAPES = {
    "square": (2, 2, 100, 100, 16, 16),
    "one": (1, 1, 1, 1, 8, 8),
    "few keys": (2, 2, 97, 13, 24, 8),
    "few queries": (2, 2, 7, 130, 8, 40),
    "shared": (6, 2, 49, 49, 16, 8),
    "long": (2, 1, 210, 210, 8, 16),  # whose probabilities are not kept
}


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with kernels_as("fast"):
        yield


def drawn(shape: str, dtype: DType) -> tuple[Array, Heads]:
    """Return a gradient and heads that lie side by side, as projections do."""
    num, groups, queries, keys, width, value_width = SHAPES[shape]
    rng = np.random.default_rng(0)

    def one(heads: int, length: int, wide: int) -> Array:
        x = rng.standard_normal((2, length, heads, wide)).astype(dtype)
        by_head: Array = x.transpose(0, 2, 1, 3)
        return by_head

    heads = one(num, queries, width), one(groups, keys, width)
    values = one(groups, keys, value_width)
    return one(num, queries, value_width), (*heads, values)


def outcome(g: Array, heads: Heads, scheme: Scheme, form: str = "run") -> list[Array]:
    """Return attention and its gradients by one form of the kernels."""
    out = np.full(g.shape, np.nan, g.dtype)
    saved = getattr(kernels.attention, form)(heads, scheme, out)
    q, k, v = (np.full(part.shape, np.nan, part.dtype) for part in heads)
    before = saved.copy()
    getattr(kernels.attention_grads, form)(g, heads, scheme, saved, (q, k, v))
    assert_array_equal(saved, before)
    return [out, q, k, v]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_bands_are_close_to_the_tiles_of_numpy(
    shape: str, is_causal: bool, dtype: DType
) -> None:
    g, heads = drawn(shape, dtype)
    scheme = Scheme(scale=0.7, is_causal=is_causal)
    plain = outcome(g, heads, scheme, "numpy")
    for got, want in zip(outcome(g, heads, scheme), plain, strict=True):
        scale = max(1.0, float(np.abs(want).max()))
        assert_allclose(got, want, 0, CLOSE[dtype.name] * scale)


@pytest.mark.parametrize("shape", ["square", "shared", "long"])
def test_a_head_has_the_same_bits_alone_and_in_other_memory(shape: str) -> None:
    g, (q, k, v) = drawn(shape, np.dtype(np.float32))
    share, scheme = q.shape[1] // k.shape[1], Scheme(scale=0.7, is_causal=True)
    whole = outcome(g, (q, k, v), scheme)
    own, group = (slice(1, 2), slice(-share, None)), (slice(1, 2), slice(-1, None))
    heads = q[own].copy(), k[group].copy(), np.flip(np.flip(v[group], 2).copy(), 2)
    alone = outcome(g[own].copy(), heads, scheme)
    for got, want, part in zip(alone, whole, (own, own, group, group), strict=True):
        assert_array_equal(got, want[part])


@pytest.mark.parametrize("shape", ["square", "shared", "long"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_finite_changes_no_bit_of_those_that_do_not_see_it(
    shape: str, number: float
) -> None:
    g, (q, k, v) = drawn(shape, np.dtype(np.float32))
    share, scheme = q.shape[1] // k.shape[1], Scheme(scale=0.7, is_causal=True)
    want = outcome(g, (q, k, v), scheme)[0]
    v[0, 0, 31, 3] = number
    k[1, 0, 20, 0] = np.nan
    got = outcome(g, (q, k, v), scheme)[0]
    assert not np.isfinite(got[0, :share, 31:, 3]).any()
    assert np.isnan(got[1, :share, 20:]).all()
    got[0, :share, 31:, 3] = want[0, :share, 31:, 3]
    got[1, :share, 20:] = want[1, :share, 20:]
    assert_array_equal(got, want)


def test_a_query_whose_scores_are_all_minus_infinity_gets_zeros() -> None:
    g, (q, k, v) = drawn("square", np.dtype(np.float32))
    q[:, :, :, 0], k[:, :, :9, 0] = 1.0, -np.inf
    out = outcome(g, (q, k, v), Scheme(scale=0.7, is_causal=True))[0]
    assert not out[:, :, :9].any()
    assert np.isfinite(out).all()


@pytest.mark.parametrize("form", ["one vector", "a number more"])
def test_a_negative_scale_turns_the_order_of_scores(form: str) -> None:
    num, width = 20, 8 + (form == "a number more")
    x = np.random.default_rng(0).standard_normal((1, 1, num, width)) * 20
    one = x.astype(np.float32)
    heads = one, one, one
    scheme = Scheme(scale=-1.0)
    got, want = (np.empty_like(heads[0]) for _ in range(2))
    kernels.attention(heads, scheme, got)
    with kernels_as("numpy"):
        kernels.attention(heads, scheme, want)
    assert_allclose(got, want, 0, 1e-4)


def test_probabilities_of_small_heads_are_kept_in_less_memory_than_tiles() -> None:
    g, heads = drawn("square", np.dtype(np.float32))
    out = np.empty_like(g)
    scheme = Scheme(scale=0.7, is_causal=True)
    saved = kernels.attention(heads, scheme, out)
    assert saved.ndim == 2  # the loops took it
    assert saved.size < kernels.attention.numpy(heads, scheme, out).size
