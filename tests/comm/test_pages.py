"""Pages are taken when they are written, given back when dropped, and stay in place."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_params.comm import pages
from parallel_params.comm.pages import (
    PAGE_BYTES,
    drop_pages,
    in_pages,
    reserve,
    resident_bytes,
    zeros_in_pages,
)

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells which pages are there"
)

NUM_BYTES = 6 * PAGE_BYTES


@given(num_bytes=st.integers(0, 3 * PAGE_BYTES))
def test_reserved_bytes_are_zeros_from_the_start_of_a_page(num_bytes: int) -> None:
    memory = reserve(num_bytes)
    assert memory.shape == (num_bytes,)
    assert memory.dtype == np.uint8
    assert memory.flags.writeable
    assert not memory.any()
    assert num_bytes == 0 or memory.ctypes.data % PAGE_BYTES == 0


@given(numel=st.integers(0, 3 * PAGE_BYTES), dtype=st.sampled_from(["f2", "f4", "f8"]))
def test_zeros_of_any_type_begin_on_a_page(numel: int, dtype: str) -> None:
    memory = zeros_in_pages(numel, dtype)
    assert memory.shape == (numel,)
    assert memory.dtype == np.dtype(dtype)
    assert memory.flags.writeable
    assert not memory.any()
    assert numel == 0 or memory.ctypes.data % PAGE_BYTES == 0


@linux_only
def test_reserving_takes_no_page_and_writing_takes_one() -> None:
    memory = reserve(1 << 30)
    assert resident_bytes(memory) == 0
    memory[1 << 20] = 1
    # A system may take a huge page for it.
    assert PAGE_BYTES <= resident_bytes(memory) <= 4 << 20


@linux_only
@given(first=st.integers(0, NUM_BYTES), last=st.integers(0, NUM_BYTES))
def test_dropping_gives_back_whole_pages_inside_and_touches_no_other_byte(
    first: int, last: int
) -> None:
    memory = reserve(NUM_BYTES)
    memory[:] = 7
    drop_pages(memory[first:last], is_shared=False)
    whole = max(0, last // PAGE_BYTES - -(-first // PAGE_BYTES)) * PAGE_BYTES
    assert resident_bytes(memory) == NUM_BYTES - whole
    assert int((memory == 7).sum()) == NUM_BYTES - whole
    memory[:] = 8
    assert (memory == 8).all()


def test_other_systems_keep_their_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_IS_LINUX", False)
    memory = reserve(NUM_BYTES)
    memory[:] = 7
    drop_pages(memory, is_shared=False)
    assert (memory == 7).all()
    assert resident_bytes(memory) == NUM_BYTES


@given(num_bytes=st.integers(0, 10 * PAGE_BYTES))
def test_pages_hold_the_bytes_and_no_page_is_too_many(num_bytes: int) -> None:
    found = in_pages(num_bytes)
    assert found % PAGE_BYTES == 0
    assert 0 <= found - num_bytes < PAGE_BYTES
