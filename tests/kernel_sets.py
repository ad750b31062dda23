"""Both sets of kernels for tests: chosen for a block, and what they are compared by."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from parallel_params.tensor.kernel_set import Choice, kernel_set, set_kernels
from parallel_params.tensor.tape import Array

# Of the largest number of a result: polynomials and sums in another order.
CLOSE = {"float32": 2e-6, "float64": 4e-14}


@contextmanager
def kernels_as(name: Choice) -> Iterator[None]:
    """Compute with this set in a block; skip the test where it cannot be had."""
    if name == "fast":
        pytest.importorskip("numba")
    before = kernel_set().name
    set_kernels(name)
    try:
        yield
    finally:
        set_kernels(before)


def normal(
    rng: np.random.Generator, shape: int | tuple[int, ...], dtype: "np.dtype[Any]"
) -> Array:
    """Numbers around 0, most of them within 6 of it."""
    numbers: Array = (rng.standard_normal(shape) * 3).astype(dtype)
    return numbers
