"""The laws that every optimizer rule keeps, each a function of a case.

A law returns what is wrong in words, or None. Those that need a world of ranks are in
`worlds.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias, get_args

import numpy as np

from parallel_params.optim.kinds import (
    is_evaluated_rule,
    is_plain_rule,
    is_round_rule,
    slots_of,
)
from parallel_params.plan.spec import MASTER_WEIGHT, Structure
from parallel_params.tensor.tape import Array
from parallel_params.testing.cases import (
    Case,
    State,
    copy_of,
    difference,
    low_precision,
    reborn,
    state_difference,
)
from parallel_params.testing.parts import move_in_parts
from parallel_params.testing.worlds import sharded_is_serial

Law: TypeAlias = Callable[[Case], "str | None"]

# A few roundings of float64, and of an iteration over them.
ROUNDED = 1e-9
# What float32 makes of a few steps, against float64.
SINGLE = 2e-2
HALF = 2.0**-7  # one rounding to bfloat16


def declares_itself(case: Case) -> str | None:
    """Structure, state and rounds are said once, and the same everywhere.

    Ranks compare rules by their text, and what is saved goes by the names of the state.
    """
    rule = case.rule
    if rule.structure not in get_args(Structure):
        return f"structure is {rule.structure!r}, not one of {get_args(Structure)}"
    if is_plain_rule(rule) and rule.structure not in ("element", "matrix"):
        return f"structure {rule.structure!r} is of rules in rounds, with `moves`"
    if is_round_rule(rule) and rule.structure not in ("tensor_scalar", "row"):
        return f"structure {rule.structure!r} is of rules with `update`"
    slots = slots_of(rule, case.shape)
    if len(set(slots.names)) != len(slots.names) or MASTER_WEIGHT in slots.names:
        return f"slots {slots.names} repeat a name, or take {MASTER_WEIGHT!r}"
    if is_round_rule(rule):
        widths = rule.round_widths(case.shape)
        if len(widths) != rule.num_rounds:
            return f"num_rounds is {rule.num_rounds}, round_widths gives {widths}"
        if rule.structure != "row" and (slots.row or slots.column):
            return f"slots by row or column need structure 'row', not {rule.structure}"
    twin = reborn(rule)
    if twin != rule or hash(twin) != hash(rule) or repr(twin) != repr(rule):
        return (
            "a copy does not compare, hash or print like the rule; a frozen "
            "dataclass of numbers does"
        )
    return None


def keeps_nothing(case: Case) -> str | None:
    """The same arrays give the same bits: a rule keeps nothing between its calls."""
    (weight, state), (again, state_again) = (_run(case, [g, g]) for g in _two(case))
    return difference("weight", again, weight) or state_difference(state_again, state)


def only_reads_gradients(case: Case) -> str | None:
    """The gradient is as it was: ranks of a node, or the user, may still read it."""
    if not is_plain_rule(case.rule):
        return None  # rules in rounds are given scratch
    weight, state, gradient = case.weight(), case.state(), case.gradient()
    before = gradient.copy()
    for step in (1, 2):
        case.move(weight, gradient, state, step=step)
    return difference("gradient", gradient, before)


def honours_the_gradient_scale(case: Case) -> str | None:
    """A gradient times a power of two is the gradient with that as its scale.

    In weight and state. Means, loss scales and clipping arrive as this factor.
    """
    case.dtype = np.dtype(np.float64)
    scale = float(case.rng.choice([0.125, 4.0]))
    case.notes.append(f"scale {scale:g}")
    weight, gradients = case.weight(), [case.gradient() for _ in range(3)]
    plain, scaled = weight.copy(), weight.copy()
    state, scaled_state = case.state(), case.state()
    one = replace(case.numbers, gradient_scale=1.0)
    for step, gradient in enumerate(gradients, start=1):
        given = np.asarray(gradient * scale)
        case.move(plain, given, state, step=step, numbers=one)
        case.move(
            scaled,
            gradient,
            scaled_state,
            step=step,
            numbers=replace(one, gradient_scale=scale),
        )
    return difference("weight", scaled, plain, tolerance=ROUNDED) or state_difference(
        scaled_state, state, tolerance=ROUNDED
    )


def may_be_cut(case: Case) -> str | None:
    """Parts that are moved alone have the bits of the whole, wherever it is cut.

    `element` anywhere; `tensor_scalar` and `row` between leaves; `matrix` nowhere.
    """
    if case.rule.structure == "matrix":
        return None
    weight, gradients = case.weight(), [case.gradient() for _ in range(3)]
    parts, state, parts_state = weight.copy(), case.state(), case.state()
    for step, gradient in enumerate(gradients, start=1):
        case.move(weight, gradient, state, step=step)
        found = move_in_parts(case, parts, gradient, parts_state, step=step)
        if found:
            return found
    return difference("weight", parts, weight) or state_difference(parts_state, state)


def may_be_resumed(case: Case) -> str | None:
    """Going on with a copy of weight and state, in another process, changes no bit."""
    gradients = [case.gradient() for _ in range(6)]
    weight, state = case.weight(), case.state()
    stop = int(case.rng.integers(1, 5))
    case.notes.append(f"saved after step {stop}")
    saved: tuple[Array, State] | None = None
    for step, gradient in enumerate(gradients, start=1):
        case.move(weight, gradient, state, step=step)
        if step == stop:
            saved = weight.copy(), copy_of(state)
    assert saved is not None
    resumed, resumed_state = saved
    rule = reborn(case.rule)
    for step in range(stop + 1, 7):
        case.move(resumed, gradients[step - 1], resumed_state, step=step, rule=rule)
    return difference("weight", resumed, weight) or state_difference(
        resumed_state, state
    )


def takes_no_gradient(case: Case) -> str | None:
    """A gradient of zeros, which is what an absent one is, leaves all numbers finite.

    At the first step too, where all state is zero.
    """
    weight, state = case.weight(), case.state()
    nothing = np.zeros(case.shape, case.dtype)
    present = int(case.rng.integers(1, 4))
    case.notes.append(f"a gradient in step {present} of 3 alone")
    for step in (1, 2, 3):
        gradient = case.gradient() if step == present else nothing
        case.move(weight, gradient, state, step=step)
        for what, values in {"weight": weight, **state}.items():
            if not np.isfinite(values).all():
                first = int(np.argmin(np.isfinite(values.reshape(-1))))
                bad = values.reshape(-1)[first]
                return f"{what} is {bad} at element {first} after step {step}"
    return None


def rounds_low_precision_once(case: Case) -> str | None:
    """16-bit weights are moved in float32, as float32 ones are, and rounded at the end.

    State may hold what was rounded, an average of the weights for instance.
    """
    low = low_precision()[int(case.rng.integers(2))]
    case.dtype = np.dtype(np.float32)
    weight, gradient = case.weight().astype(low), case.gradient().astype(low)
    wide, wide_gradient = weight.astype(np.float32), gradient.astype(np.float32)
    case.notes.append(f"weight {low}")
    state, wide_state = case.state(), case.state()
    case.move(weight, gradient, state, step=1)
    case.move(wide, wide_gradient, wide_state, step=1)
    return difference("weight", weight, wide.astype(low)) or state_difference(
        state, wide_state, tolerance=HALF
    )


def computes_in_float64(case: Case) -> str | None:
    """float64 weights are moved in float64, to about where float32 ones go."""
    case.dtype = np.dtype(np.float64)
    weight, gradient = case.weight(), case.gradient()
    nearly = np.asarray(weight * (1 + 2.0**-40))  # the same number in float32
    single = weight.astype(np.float32)
    single_state = case.state(np.dtype(np.float32))
    case.move(single, gradient.astype(np.float32), single_state, step=1)
    other = nearly.copy()
    case.move(other, gradient, case.state(), step=1)
    moved = weight.copy()
    case.move(moved, gradient, case.state(), step=1)
    alike = np.flatnonzero((moved == other) & (weight != nearly) & (moved != 0))
    if len(alike) * 2 > weight.size and not _forgets_weights(case, weight, gradient):
        return (
            f"{len(alike)} of {weight.size} weights do not notice a change in the 40th "
            "bit: something is rounded to float32 on the way"
        )
    return difference(
        "weight in float32", single, moved.astype(np.float32), tolerance=SINGLE
    )


def evaluates_without_a_trace(case: Case) -> str | None:
    """`evaluation` gives weights of the shape, and changes neither weight nor state."""
    rule = case.rule
    if not is_evaluated_rule(rule):
        return None
    weight, state = _run(case, [case.gradient(), case.gradient()])
    before, state_before = weight.copy(), copy_of(state)
    shown = rule.evaluation(weight, state)
    if np.shape(shown) != case.shape:
        return f"evaluation has the shape {np.shape(shown)}, not {case.shape}"
    if not np.isfinite(shown).all():
        return "evaluation has elements that are not finite"
    return difference("weight", weight, before) or state_difference(state, state_before)


LAWS: Mapping[str, Law] = {
    "declares itself": declares_itself,
    "keeps nothing between calls": keeps_nothing,
    "only reads gradients": only_reads_gradients,
    "honours the gradient scale": honours_the_gradient_scale,
    "may be cut": may_be_cut,
    "may be resumed": may_be_resumed,
    "takes no gradient": takes_no_gradient,
    "rounds low precision once": rounds_low_precision_once,
    "computes in float64": computes_in_float64,
    "evaluates without a trace": evaluates_without_a_trace,
    "sharded is serial": sharded_is_serial,
}
"""By name, in the order in which they are tried: what is simple to mend comes first."""


def _forgets_weights(case: Case, weight: Array, gradient: Array) -> bool:
    """Whether the weights after a step do not depend on those before, as in FTRL."""
    other, moved = np.asarray(weight + 1), weight.copy()
    case.move(other, gradient, case.state(), step=1)
    case.move(moved, gradient, case.state(), step=1)
    return bool(np.mean(other == moved) > 0.25)


def _two(case: Case) -> Iterator[Array]:
    gradient = case.gradient()
    yield gradient.copy()
    yield gradient


def _run(case: Case, gradients: list[Array]) -> tuple[Array, State]:
    """Return weight and state after a few steps from ones."""
    weight, state = np.ones(case.shape, case.dtype), case.state()
    for step, gradient in enumerate(gradients, start=1):
        case.move(weight, gradient, state, step=step)
    return weight, state
