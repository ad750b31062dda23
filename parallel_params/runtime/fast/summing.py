"""The sum of two rows in one loop, which also says if it is finite; and that alone."""

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


def are_finite(values: Array) -> bool:
    """Do what `runtime.summing.are_finite` does."""
    if not fits((values,)):
        return summing.are_finite.numpy(values)
    largest = np.array([np.finfo(values.dtype).max], values.dtype)
    return bool(_are_at_most(values, largest))


@compiled("boolean(T[::1], T[::1])")
def _are_at_most(values: Array, limit: Array) -> bool:
    """Look at four quarters side by side: more of memory is on its way at once."""
    largest = limit[0]
    n = values.size // 4
    a, b, c, d = values[:n], values[n : 2 * n], values[2 * n : 3 * n], values[3 * n :]
    is_finite = True
    for i in range(n):
        is_finite &= (abs(a[i]) <= largest) & (abs(b[i]) <= largest)
        is_finite &= (abs(c[i]) <= largest) & (abs(d[i]) <= largest)
    for i in range(n, d.size):
        is_finite &= abs(d[i]) <= largest
    return is_finite
