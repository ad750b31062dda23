"""The sum of two rows as one loop over memory, which also says if it is finite."""

import numpy as np

from parallel_params.runtime import summing
from parallel_params.tensor.fast.compiler import compiled, fits
from parallel_params.tensor.tape import Array


def add_pair(left: Array, right: Array, out: Array) -> bool:
    """Do what `runtime.summing.add_pair` does."""
    if not fits((left, right, out)):
        return summing.add_pair.numpy(left, right, out)
    # Loops over arrays that may overlap are not vectorised: each comes once.
    address = out.ctypes.data
    if address == right.ctypes.data:
        left, right = right, left
    elif address != left.ctypes.data:
        return summing.add_pair.numpy(left, right, out)
    largest = np.array([np.finfo(out.dtype).max], out.dtype)
    return bool(_add_to(out, right, largest))


@compiled("boolean(T[::1], T[::1], T[::1])")
def _add_to(out: Array, more: Array, limit: Array) -> bool:
    largest = limit[0]
    is_finite = True
    for i in range(out.size):
        total = out[i] + more[i]
        out[i] = total
        is_finite &= abs(total) <= largest
    return is_finite
