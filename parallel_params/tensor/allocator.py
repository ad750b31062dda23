"""What the C library does with the memory of arrays that have died.

By itself glibc gives large pieces back to the system at once and fetches them anew in
the next step: thousands of page faults for activations that have the same sizes every
time. One call makes it keep them, for the whole process.
"""

import ctypes

# Source: mallopt(3), /usr/include/malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
_LARGEST_KEPT = 2**30  # bytes; what is larger is rare, and worth giving back


def keep_freed_memory() -> bool:
    """Have this process keep the memory of freed arrays for the next ones.

    Its memory stays at the most it has had, instead of falling between steps. Results
    do not change. It cannot be taken back; PyTorch and others in the process are
    served alike.

    Returns:
        Whether the C library can do it: glibc, on Linux.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    settings = ((_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, _NEVER))
    return all([library.mallopt(which, value) == 1 for which, value in settings])
