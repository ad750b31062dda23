"""Run any rule on a whole parameter: an optimizer that steps alone, and no ranks.

Leaves are counted from the parameter's first element, every 1024 elements, or by rows
for rules that are cut there; sums over them are added in the canonical tree.
"""

import math
from collections.abc import Mapping

import numpy as np

from parallel_params.optim.kinds import is_plain_rule, is_round_rule
from parallel_params.optim.rule import (
    AnyRule,
    Moves,
    Part,
    RoundRule,
    Shape,
    Slots,
    state_dtype,
)
from parallel_params.optim.sums import tree_sum
from parallel_params.tensor.tape import Array

LEAF_NUMEL = 1024  # as many elements as a policy aligns to, if not told otherwise


def move_whole(
    rule: AnyRule,
    weight: Array,
    gradient: Array,
    state: Mapping[str, Array],
    *,
    step: int,
    learning_rate: float,
    weight_decay: float,
    gradient_scale: float = 1.0,
    is_adapted: bool = True,
) -> None:
    """Move a whole parameter by one step.

    Args:
        rule: of any structure.
        weight: of any shape and a floating-point type. Written.
        gradient: of the same shape. Only read.
        state: contiguous arrays of `state_shape`. Written.
        step: 1 for the first step of this state.
        learning_rate: of this step.
        weight_decay: 0 for none.
        gradient_scale: the gradient meant is `gradient_scale * gradient`.
        is_adapted: see `Part`.
    """
    numbers = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "gradient_scale": gradient_scale,
    }
    if is_round_rule(rule):
        part = whole_part(rule, weight, gradient, state, is_adapted=is_adapted)
        run_rounds(rule.moves(part, step=step, **numbers))
        moved = part.weight
    elif is_plain_rule(rule):
        is_matrix = rule.structure == "matrix"
        shape = weight.shape if is_matrix else (weight.size,)
        moved = weight.reshape(shape)
        rule.update(
            moved,
            gradient.reshape(shape),
            {slot: values.reshape(shape) for slot, values in state.items()},
            step=step,
            **numbers,
        )
    if not np.may_share_memory(moved, weight):  # then reshaping had to copy
        weight[...] = moved.reshape(weight.shape)


def whole_part(
    rule: RoundRule,
    weight: Array,
    gradient: Array,
    state: Mapping[str, Array],
    *,
    is_adapted: bool = True,
) -> Part:
    """Return a whole parameter as one part, with a copy of the gradient as scratch."""
    edges = leaf_edges(rule, weight.shape)
    return Part(
        weight=weight.reshape(-1),
        gradient=gradient.reshape(-1).astype(state_dtype(weight.dtype)),
        state={slot: values.reshape(-1) for slot, values in state.items()},
        shape=weight.shape,
        edges=edges,
        nodes=[range(len(edges) - 1)] if len(edges) > 1 else [],
        is_adapted=is_adapted,
    )


def run_rounds(moves: Moves) -> None:
    """Answer every round with the sum over the leaves of this one part."""
    try:
        leaves = next(moves)
        while True:
            leaves = moves.send(tree_sum(leaves))
    except StopIteration:
        return


def leaf_edges(rule: RoundRule, shape: Shape) -> Array:
    """Return where the leaves of a whole parameter begin, and where the last ends."""
    numel = math.prod(shape)
    leaf = math.prod(shape[1:]) if rule.structure == "row" else LEAF_NUMEL
    inner = np.arange(0, numel, max(1, leaf), dtype=np.int64)
    return np.append(inner, numel)


def state_shape(slots: Slots, slot: str, shape: Shape) -> Shape:
    """Return the shape of a state array of a parameter of this shape."""
    if slot in slots.row:
        return shape[:1]
    return shape[1:] if slot in slots.column else shape
