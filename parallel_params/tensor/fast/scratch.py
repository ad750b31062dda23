"""Memory that loops write to and leave: it starts with a line of the cache."""

import numpy as np

from parallel_params.tensor.fast.vectors import LINE_BYTES
from parallel_params.tensor.tape import Array


def memory(numel: int, dtype: "np.dtype[np.generic]") -> Array:
    """Return memory of [numel]."""
    line = LINE_BYTES // dtype.itemsize
    whole = np.empty(numel + line, dtype)
    start = -whole.__array_interface__["data"][0] % LINE_BYTES // dtype.itemsize
    return whole[start : start + numel]


def matrix(num: int, width: int, dtype: "np.dtype[np.generic]") -> Array:
    """Return memory of [num, width at least] whose rows fill an odd number of lines."""
    line = LINE_BYTES // dtype.itemsize
    padded = (-(-width // line) | 1) * line
    return memory(num * padded, dtype).reshape(num, padded)
