"""Both sets of kernels for tests: chosen for a block, and taken back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from parallel_params.tensor.kernel_set import Choice, kernel_set, set_kernels


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
