"""One step of a parameter that is cut among owners by hand: no plan, no ranks."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise

import numpy as np

from parallel_params.optim.alone import leaf_edges
from parallel_params.optim.kinds import is_plain_rule, is_round_rule, slots_of
from parallel_params.optim.rule import Moves, Part, RoundRule
from parallel_params.optim.sums import tree_sum
from parallel_params.tensor.tape import Array
from parallel_params.testing.cases import Case, State

MAX_CUTS = 4


def move_in_parts(
    case: Case, weight: Array, gradient: Array, state: State, *, step: int
) -> str | None:
    """Move a parameter by one step, in parts that are cut somewhere.

    Args:
        case: draws where to cut.
        weight: Written.
        gradient: Only read.
        state: Written.
        step: 1 for the first.

    Returns:
        What is wrong, if that shows on the way; else None.
    """
    rule = case.rule
    with np.errstate(all="ignore"):
        if is_round_rule(rule):
            return _move_rounds(case, rule, weight, gradient, state, step)
        assert is_plain_rule(rule)
        borders = _borders(case, weight.size)
        for start, stop in pairwise(borders):
            own = slice(start, stop)
            rule.update(
                weight.reshape(-1)[own],
                gradient.reshape(-1)[own],
                {slot: values.reshape(-1)[own] for slot, values in state.items()},
                step=step,
                **asdict(case.numbers),
            )
    return None


def _borders(case: Case, num: int) -> list[int]:
    cuts = case.rng.integers(0, num + 1, size=int(case.rng.integers(1, MAX_CUTS)))
    inner = sorted(cuts.tolist())
    case.notes = [f"cut at {inner}"]
    return [0, *inner, num]


def _move_rounds(
    case: Case,
    rule: RoundRule,
    weight: Array,
    gradient: Array,
    state: State,
    step: int,
) -> str | None:
    edges = leaf_edges(rule, case.shape)
    columns: list[State] = []
    moves: list[Moves] = []
    for first, stop in pairwise(_borders(case, len(edges) - 1)):
        columns.append(_columns(rule, case, state))
        part = _part(
            case, weight, gradient, state, columns[-1], edges[first : stop + 1]
        )
        moves.append(rule.moves(part, step=step, **asdict(case.numbers)))
    handed_out = [next(each) for each in moves]
    for number, width in enumerate(rule.round_widths(case.shape)):
        wrong = [rows.shape for rows in handed_out if rows.shape[1:] != (width,)]
        if wrong:
            return f"round {number} hands out {wrong[0]}, expected [leaves, {width}]"
        total = tree_sum(np.concatenate(handed_out))
        answers = [_answer(each, total) for each in moves]
        has_ended = number + 1 == rule.num_rounds
        if any((answer is None) != has_ended for answer in answers):
            return f"the rule does not end after num_rounds = {rule.num_rounds} rounds"
        handed_out = [answer for answer in answers if answer is not None]
    for slot in slots_of(rule, case.shape).column:
        if len({own[slot].tobytes() for own in columns}) > 1:
            return f"state {slot!r} by column is not the same in all parts"
        state[slot][...] = columns[0][slot]
    return None


def _columns(rule: RoundRule, case: Case, state: Mapping[str, Array]) -> State:
    """Return an owner's copy of the state that all have whole."""
    return {slot: state[slot].copy() for slot in slots_of(rule, case.shape).column}


def _part(
    case: Case,
    weight: Array,
    gradient: Array,
    state: Mapping[str, Array],
    columns: State,
    edges: Array,
) -> Part:
    slots, own = slots_of(case.rule, case.shape), slice(edges[0], edges[-1])
    row_numel = max(1, weight.size // max(1, case.shape[0] if case.shape else 1))
    rows = slice(edges[0] // row_numel, -(-edges[-1] // row_numel))
    return Part(
        weight=weight.reshape(-1)[own],
        gradient=gradient.reshape(-1)[own].copy(),
        state={
            **{slot: state[slot].reshape(-1)[own] for slot in slots.element},
            **{slot: state[slot][rows] for slot in slots.row},
            **columns,
        },
        shape=case.shape,
        edges=edges - edges[0],
    )


def _answer(moves: Moves, total: Array) -> Array | None:
    try:
        return moves.send(total)
    except StopIteration:
        return None
