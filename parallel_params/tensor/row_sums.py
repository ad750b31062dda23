"""The canonical tree over rows: the one order in which the ranks' arrays are added."""

import numpy as np

from parallel_params.tensor.tape import Array


def tree_sum_rows(rows: Array) -> Array:
    """Add the rows of [n, numel], n > 0, in place; return row 0, which is their sum.

    Neighbours are added in pairs, the pairs in pairs, an odd one out waits. All rows
    are spent.
    """
    stride = 1
    while stride < len(rows):
        right = rows[stride :: 2 * stride]
        left = rows[:: 2 * stride][: len(right)]
        np.add(left, right, left)
        stride *= 2
    total: Array = rows[0]
    return total
