"""Numbers that name things: tokens, rows of a table, classes. Are they in range?"""

import numpy as np

from parallel_params.tensor.tape import Array

_UNSIGNED = {number: np.dtype(f"u{number}") for number in (1, 2, 4, 8)}  # by bytes


def are_in_range(ids: Array, num: int) -> bool:
    """Return whether all of these integers lie in [0, num), in one pass."""
    if not ids.size:
        return True
    # Read as unsigned, a negative number is a huge one: one pass finds both.
    unsigned = ids if ids.dtype.kind == "u" else ids.view(_UNSIGNED[ids.itemsize])
    return bool(np.maximum.reduce(unsigned, None) < num)


def first_out_of_range(ids: Array, num: int) -> tuple[int, tuple[int, ...]]:
    """Return the first of `ids` that does not lie in [0, num), and its place."""
    place = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= num))[0])
    return int(ids[place]), place
