"""A rule in rounds, its parameter cut by hand among owners: no plan, no communication.

Every owner hands out the subtrees that it has whole; they are added to the root by the
definition of the tree, one node after the other.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parallel_params.optim.alone import leaf_edges, state_shape
from parallel_params.optim.kinds import round_widths, slots_of
from parallel_params.optim.rule import Moves, Part, RoundRule, Slots, state_dtype
from parallel_params.plan.leaves import tree_nodes

Array = NDArray[Any]
State = dict[str, Array]


def zero_state(rule: RoundRule, weight: Array) -> State:
    """Return the state before the first step."""
    slots, dtype = slots_of(rule, weight.shape), state_dtype(weight.dtype)
    return {
        slot: np.zeros(state_shape(slots, slot, weight.shape), dtype)
        for slot in slots.names
    }


def move_in_parts(
    rule: RoundRule,
    weight: Array,
    gradient: Array,
    state: State,
    cuts: Sequence[int],
    *,
    has_nodes: bool = True,
    **numbers: Any,
) -> None:
    """Move a parameter by one step, cut before the leaves `cuts` among owners.

    Args:
        rule: of `tensor_scalar` or `row`.
        weight: Written.
        gradient: Only read.
        state: of `zero_state`. Written.
        cuts: leaves, ascending; equal ones make an owner of nothing.
        has_nodes: let owners add up their leaves themselves.
        numbers: see `RoundRule.moves`.
    """
    edges = leaf_edges(rule, weight.shape)
    num_leaves = len(edges) - 1
    borders = [0, *cuts, num_leaves]
    columns: list[State] = []
    moves, nodes = [], []
    for first, stop in pairwise(borders):
        own = tree_nodes(first, stop, num_leaves)
        columns.append({})
        part = _part(
            rule, weight, gradient, state, edges[first : stop + 1], columns[-1]
        )
        part.is_adapted = numbers.get("is_adapted", True)
        if has_nodes:
            part.nodes = [range(i << n, min((i + 1) << n, num_leaves)) for n, i in own]
            part.nodes = [
                range(node.start - first, node.stop - first) for node in part.nodes
            ]
        nodes.append(own if has_nodes else [(0, leaf) for leaf in range(first, stop)])
        moves.append(
            rule.moves(part, **{k: v for k, v in numbers.items() if k != "is_adapted"})
        )
    handed_out = [next(each) for each in moves]
    for number, width in enumerate(round_widths(rule, weight.shape)):
        sums = {
            node: row
            for own, rows in zip(nodes, handed_out, strict=True)
            for node, row in zip(own, rows, strict=True)
        }
        assert all(rows.shape[1:] == (width,) for rows in handed_out)
        total = _root(sums, num_leaves) if sums else np.zeros(width)
        is_last = number + 1 == rule.num_rounds
        handed_out = [_answer(each, total, is_last=is_last) for each in moves]
    _keep_columns(slots_of(rule, weight.shape), state, columns)


def _answer(moves: Moves, total: Array, *, is_last: bool) -> Array:
    """Send the total of a round; the rule ends after its last one, and not before."""
    if not is_last:
        return moves.send(total)
    try:
        moves.send(total)
    except StopIteration:
        return total
    raise AssertionError("the rule has more rounds than it says")


def _part(
    rule: RoundRule,
    weight: Array,
    gradient: Array,
    state: Mapping[str, Array],
    edges: Array,
    columns: State,
) -> Part:
    """Return the leaves between `edges`; copies of column state go to `columns`."""
    slots, own = slots_of(rule, weight.shape), slice(edges[0], edges[-1])
    row_numel = max(1, weight.size // max(1, len(weight) if weight.ndim else 1))
    rows = slice(edges[0] // row_numel, -(-edges[-1] // row_numel))
    columns.update({slot: state[slot].copy() for slot in slots.column})
    return Part(
        weight=weight.reshape(-1)[own],
        gradient=gradient.reshape(-1)[own].copy(),
        state={
            **{slot: state[slot].reshape(-1)[own] for slot in slots.element},
            **{slot: state[slot][rows] for slot in slots.row},
            **columns,
        },
        shape=weight.shape,
        edges=edges - edges[0],
    )


def _root(sums: Mapping[tuple[int, int], Array], num_leaves: int) -> Array:
    """Add known subtrees up to the root of a tree with so many leaves."""

    def value(level: int, index: int) -> Array:
        if (level, index) in sums:
            return sums[level, index]
        left, right = (level - 1, 2 * index), (level - 1, 2 * index + 1)
        if right[1] << right[0] >= num_leaves:
            return value(*left)
        return np.asarray(value(*left) + value(*right))

    return value(max(0, num_leaves - 1).bit_length(), 0)


def _keep_columns(slots: Slots, state: State, columns: Sequence[State]) -> None:
    """Write back the column state, which all owners must have moved alike."""
    for slot in slots.column:
        copies = {own[slot].tobytes() for own in columns}
        assert len(copies) == 1, slot
        state[slot][...] = columns[0][slot]
