"""Memory by the page: reserved without being taken, and given back without moving.

Linux does both. Elsewhere memory is taken as the system likes and `drop_pages` does
nothing, which is allowed: dropped bytes may read as anything.
"""

import ctypes
import functools
import mmap
import os
import sys

import numpy as np
from numpy.typing import DTypeLike, NDArray

PAGE_BYTES = mmap.PAGESIZE

_IS_LINUX = sys.platform == "linux"
# Of <bits/mman-linux.h>; Python's `mmap` knows the first only.
_MADV_DONTNEED = 4
_MADV_REMOVE = 9


def reserve(num_bytes: int) -> NDArray[np.uint8]:
    """Return private memory of zeros that takes no page before it is written.

    Returns:
        [num_bytes], from the start of a page.
    """
    if num_bytes == 0:
        return np.empty(0, np.uint8)
    if os.name == "posix":
        pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        pages = mmap.mmap(-1, num_bytes)
    return np.frombuffer(pages, np.uint8)


def zeros_in_pages(numel: int, dtype: DTypeLike) -> NDArray[np.generic]:
    """Return zeros whose first byte is the first of a page.

    NumPy's own large arrays start 16 bytes behind one. What is copied there from the
    start of a page, as files are, takes four times as long on processors that tell
    loads from stores by the last 12 bits of their addresses.

    Returns:
        [numel], in no page before it is written.
    """
    item_bytes = np.dtype(dtype).itemsize
    spare = np.zeros(numel * item_bytes + PAGE_BYTES, np.uint8)
    first = -spare.ctypes.data % PAGE_BYTES
    return spare[first : first + numel * item_bytes].view(dtype)


def drop_pages(array: NDArray[np.generic], *, is_shared: bool) -> None:
    """Give the pages wholly inside a contiguous array back to the system.

    The array stays, may read as anything and may be written again.

    Args:
        array: of memory from `reserve`, or shared between processes.
        is_shared: which of the two; shared pages are gone for all processes.
    """
    first = -(-array.ctypes.data // PAGE_BYTES) * PAGE_BYTES
    last = (array.ctypes.data + array.nbytes) // PAGE_BYTES * PAGE_BYTES
    if _IS_LINUX and first < last:
        advice = _MADV_REMOVE if is_shared else _MADV_DONTNEED
        # A file system that cannot make holes refuses, and the pages stay.
        _c_library().madvise(
            ctypes.c_void_p(first), ctypes.c_size_t(last - first), advice
        )


def resident_bytes(array: NDArray[np.generic]) -> int:
    """Count the bytes of a contiguous array's pages that are in memory.

    Args:
        array: from the start of a page.

    Returns:
        All of them where the system does not tell.
    """
    num_pages = -(-array.nbytes // PAGE_BYTES)
    if not _IS_LINUX or num_pages == 0:
        return array.nbytes
    flags = np.zeros(num_pages, np.uint8)
    failed = _c_library().mincore(
        ctypes.c_void_p(array.ctypes.data),
        ctypes.c_size_t(array.nbytes),
        ctypes.c_void_p(flags.ctypes.data),
    )
    if failed:
        return array.nbytes
    return min(array.nbytes, int((flags & 1).sum()) * PAGE_BYTES)


def in_pages(num_bytes: int) -> int:
    """Return the bytes of the pages that hold `num_bytes`."""
    return -(-num_bytes // PAGE_BYTES) * PAGE_BYTES


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
