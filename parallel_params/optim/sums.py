"""Sums over the leaves of a part: what the canonical tree starts from.

Every leaf is summed alone, in float64 and in an order that depends on its length only;
so the number is the same wherever the leaf lies and whoever has it. Leaves of one
length that follow each other are summed in one call, a few blocks at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from parallel_params.tensor.row_sums import tree_sum_rows
from parallel_params.tensor.tape import Array

BLOCK_NUMEL = 32 * 1024  # elements converted to float64 at a time: 256 KiB
FOLD_NUMEL = 128 * 1024  # numbers of leaves that are folded at a time: 1 MiB


def leaf_sums(values: Array, edges: Array) -> Array:
    """Return [number of leaves] float64: the sum over each leaf.

    Args:
        values: [n] of a floating-point type.
        edges: [number of leaves + 1] ascending from 0 to n; leaf i is
            `values[edges[i]:edges[i + 1]]`.
    """
    return _by_runs(values, edges, _sum_rows)


def square_sums(values: Array, edges: Array) -> Array:
    """Return [number of leaves] float64: the sum of squares over each leaf.

    Args:
        values: [n] of a floating-point type. Squared in float64.
        edges: as in `leaf_sums`.
    """
    return _by_runs(values, edges, _square_rows)


def tree_sum(rows: Array) -> Array:
    """Return [width] float64: the sum of the rows in the order of the canonical tree.

    Neighbours are added in pairs, the pairs in pairs, an odd one out waits.

    Args:
        rows: [leaves, width] float64. Zeros are the sum of none.
    """
    return tree_sum_rows(rows.copy()) if len(rows) else np.zeros(rows.shape[1])


def fold_nodes(
    nodes: Sequence[range] | None,
    num_leaves: int,
    leaves_of: Callable[[slice], Array],
    width: int,
) -> Array:
    """Return [nodes, width] float64: leaves added up to subtrees of the tree.

    Leaves are asked for a power of two at a time, counted from the first of a subtree.
    These are subtrees too; so no bit changes, and few leaves are there at once.

    Args:
        nodes: the leaves of each subtree; None for every leaf as it is.
        num_leaves: how many there are.
        leaves_of: called with at most `leaves_at_once(width)` leaves; returns
            [leaves, width] float64. It may overwrite that in the next call; here it is
            overwritten with sums.
        width: of a leaf.
    """
    at_once = leaves_at_once(width)
    if nodes is None:
        leaves = np.empty((num_leaves, width))
        for rows in _blocks(range(num_leaves), at_once):
            leaves[rows] = leaves_of(rows)
        return leaves
    sums = np.empty((len(nodes), width))
    for place, node in enumerate(nodes):
        blocks = _blocks(node, at_once)
        added = [tree_sum_rows(leaves_of(rows)).copy() for rows in blocks]
        sums[place] = tree_sum_rows(np.stack(added))
    return sums


def leaves_at_once(width: int) -> int:
    """Return how many leaves of this width are made at a time: a power of two."""
    return 1 << (max(1, FOLD_NUMEL // max(1, width)).bit_length() - 1)


def _blocks(leaves: range, at_once: int) -> Iterator[slice]:
    for first in range(leaves.start, leaves.stop, at_once):
        yield slice(first, min(first + at_once, leaves.stop))


def _by_runs(values: Array, edges: Array, reduce: Callable[[Array], Array]) -> Array:
    """Reduce runs of leaves of one length, [leaves, length] at a time."""
    lengths = np.diff(edges)
    sums = np.empty(len(lengths))
    borders = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    for first, stop in pairwise(borders if len(lengths) else ()):
        length = int(lengths[first])
        at_once = max(1, BLOCK_NUMEL // max(length, 1))
        for leaf in range(first, stop, at_once):
            last = min(leaf + at_once, stop)
            block = values[edges[leaf] : edges[last]].reshape(last - leaf, length)
            sums[leaf:last] = reduce(block)
    return sums


def _sum_rows(block: Array) -> Array:
    total: Array = np.add.reduce(block.astype(np.float64, copy=False), axis=1)
    return total


def _square_rows(block: Array) -> Array:
    wide = block.astype(np.float64)
    np.multiply(wide, wide, wide)
    return _sum_rows(wide)
