"""What causal attention makes of values that are not finite.

A hidden value has the weight 0, and 0 times an infinity or a NaN is not 0: in a plain
product it would reach every query of its tile.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from parallel_params.tensor.tape import Array

Product: TypeAlias = Callable[[Array, Array, Array, int], None]


def product(p: Array, values: Array, out: Array, first: int) -> None:
    """Write p @ values, as `seen_product` does where all values are finite."""
    np.matmul(p, values, out=out)


def seen_product(p: Array, values: Array, out: Array, first: int) -> None:
    """Write p @ values, in which values reach only the queries that see them.

    Queries that see none that is not finite get the bits of the plain product.

    Args:
        p: [heads, queries, keys] probabilities.
        values: [heads, keys, width], or [1, keys, width] for all.
        out: [heads, queries, width].
        first: the last key that the first query sees; each further query sees one more.
    """
    finite = np.where(np.isfinite(values), values, 0)
    np.matmul(p, finite, out=out)
    odd = values - finite  # 0 where finite
    for head, key in np.argwhere(odd.any(2)):
        heads = head if len(odd) > 1 else slice(None)
        seeing = slice(max(0, key - first), None)
        out[heads, seeing] += p[heads, seeing, key, None] * odd[head, key]
