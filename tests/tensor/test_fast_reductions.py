"""Sums over rows in compiled loops have the order that is written down, to the bit."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from kernel_sets import normal

from parallel_params.tensor.tape import Array

numba = pytest.importorskip("numba")

from parallel_params.tensor.fast import reductions  # noqa: E402 - needs Numba

WIDTHS = [1, 7, 8, 9, 31, 32, 33, 40, 64, 103, 200]
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
Number: TypeAlias = Any


@pytest.fixture(scope="module")
def compiled() -> dict[str, Callable[..., Number]]:
    total, dot, largest = reductions.total, reductions.dot, reductions.largest
    return {
        "total": numba.njit(lambda row: total(row)),
        "dot": numba.njit(lambda row, other: dot(row, other)),
        "largest": numba.njit(lambda row: largest(row)),
    }


def in_order(row: Array) -> Number:
    """Add up as `reductions` says, one operation after the other."""
    lanes = np.zeros(32, row.dtype)
    many, eights = row.size - row.size % 32, row.size - row.size % 8
    for start in range(0, many, 32):
        lanes += row[start : start + 32]
    for start in range(many, eights, 8):
        lanes[:8] += row[start : start + 8]
    found = (lanes[:8] + lanes[8:16]) + (lanes[16:24] + lanes[24:])
    while found.size > 1:
        found = found[: found.size // 2] + found[found.size // 2 :]
    result = found[0]
    for element in row[eights:]:
        result = result + element
    return result


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_are_in_the_order_that_is_written_down(
    compiled: dict[str, Callable[..., Number]], dtype: "np.dtype[Any]"
) -> None:
    rng = np.random.default_rng(0)
    for width in WIDTHS:
        row, other = normal(rng, width, dtype), normal(rng, width, dtype)
        assert compiled["total"](row) == in_order(row)
        assert compiled["dot"](row, other) == in_order(row * other)
        assert compiled["largest"](row) == row.max()


def test_infinities_and_no_numbers_go_through(
    compiled: dict[str, Callable[..., Number]],
) -> None:
    for width in WIDTHS:
        row = np.full(width, -np.inf, np.float32)
        assert compiled["largest"](row) == -np.inf
        row[-1] = np.inf
        assert compiled["largest"](row) == np.inf
        row[:] = np.nan
        assert np.isnan(compiled["largest"](row))
        row[: width // 2] = 1
        assert np.isnan(compiled["total"](row))
        assert np.isnan(compiled["dot"](row, row))
