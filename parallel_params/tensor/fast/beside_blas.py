"""Whether products in compiled loops are faster than those of the BLAS at hand."""

import functools
from typing import Any

from threadpoolctl import ThreadpoolController

# What OpenBLAS calls its kernels whose registers are as wide as the loops' vectors.
_AS_WIDE = ("Haswell", "Zen")


def is_beaten() -> bool:
    """Return whether BLAS computes on one thread, in registers as wide as the loops'.

    Loops have one thread and vectors of AVX2; with AVX-512, or on more threads, BLAS is
    faster however much it packs. Both facts change the bits of its own products too.
    """
    return bool(_pools()) and all(
        pool.architecture in _AS_WIDE and pool.num_threads == 1 for pool in _pools()
    )


@functools.cache
def _pools() -> tuple[Any, ...]:
    """Find the libraries once: only their numbers of threads change."""
    found = ThreadpoolController().select(internal_api="openblas")
    return tuple(found.lib_controllers)
