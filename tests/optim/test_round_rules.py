"""Laws of the rules in rounds: no owner changes a bit, and the arithmetic is right."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import hand_cut
import numpy as np
import pytest
from hand_cut import Array, State, move_in_parts, zero_state
from hypothesis import given, settings
from hypothesis import strategies as st

from parallel_params.optim import sums
from parallel_params.optim.alone import leaf_edges, move_whole
from parallel_params.optim.kinds import round_widths, slots_of
from parallel_params.optim.rule import RoundRule, Slots
from parallel_params.optim.rules.adafactor import AdafactorRule
from parallel_params.optim.rules.adam import AdamRule, AdamWRule
from parallel_params.optim.rules.lamb import MAX_RATIO, LambRule
from parallel_params.optim.rules.lars import LarsRule
from parallel_params.optim.rules.sgd import MomentumRule, SgdRule

RULES: tuple[RoundRule, ...] = (
    LambRule(),
    LarsRule(inner=SgdRule()),
    LarsRule(inner=MomentumRule(momentum=0.9), use_clip=True),
    LarsRule(inner=AdamRule()),
    AdafactorRule(),
    AdafactorRule(beta1=0.9, relative_step=False, scale_parameter=False),
)
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=repr)
SHAPES = [(), (0,), (1,), (7,), (3, 5), (1, 9), (9, 1), (0, 3), (3, 0), (2, 3, 4)]
LONG = (37, 101)  # several leaves of either kind, and ragged

# Sums of a few products in another order, in float64.
REORDERED = 1e-12
NUMBERS: dict[str, Any] = {
    "learning_rate": 0.1,
    "weight_decay": 0.05,
    "gradient_scale": 0.5,
}


def draw(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> Array:
    """Return numbers that depend on nothing but the arguments."""
    values = np.random.default_rng([*shape, seed]).normal(size=shape)
    return np.asarray(values).astype(dtype)


def train(
    rule: RoundRule, weight: Array, *, num_steps: int = 2, **numbers: Any
) -> tuple[Array, State]:
    """Run a rule on the whole of a copy of `weight`."""
    weight = weight.copy()
    state = zero_state(rule, weight)
    for step in range(1, num_steps + 1):
        gradient = draw(weight.shape, weight.dtype, step)
        move_whole(rule, weight, gradient, state, step=step, **(NUMBERS | numbers))
    return weight, state


def train_in_parts(
    rule: RoundRule, weight: Array, cuts: list[int], *, has_nodes: bool = True
) -> tuple[Array, State]:
    """Run a rule on a copy of `weight`, cut before the leaves `cuts`."""
    weight = weight.copy()
    state = zero_state(rule, weight)
    for step in (1, 2):
        gradient = draw(weight.shape, weight.dtype, step)
        move_in_parts(
            rule,
            weight,
            gradient,
            state,
            cuts,
            has_nodes=has_nodes,
            step=step,
            **NUMBERS,
        )
    return weight, state


def assert_same_bits(got: tuple[Array, State], want: tuple[Array, State]) -> None:
    assert got[0].tobytes() == want[0].tobytes()
    assert got[1].keys() == want[1].keys()
    for slot, values in want[1].items():
        assert got[1][slot].tobytes() == values.tobytes(), slot


@EVERY_RULE
@settings(max_examples=15)
@given(data=st.data(), shape=st.sampled_from([*SHAPES, LONG]), wide=st.booleans())
def test_how_many_owners_there_are_changes_no_bit(
    rule: RoundRule, data: st.DataObject, shape: tuple[int, ...], wide: bool
) -> None:
    weight = draw(shape, np.float64 if wide else np.float32)
    leaves = st.integers(0, len(leaf_edges(rule, shape)) - 1)
    cuts = sorted(data.draw(st.lists(leaves, max_size=4)))
    parts = train_in_parts(rule, weight, cuts, has_nodes=data.draw(st.booleans()))
    assert_same_bits(parts, train(rule, weight))


@EVERY_RULE
def test_how_many_leaves_are_made_at_a_time_changes_no_bit(
    rule: RoundRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = draw(LONG, np.float32)
    want = train(rule, weight)
    monkeypatch.setattr(sums, "FOLD_NUMEL", 250)
    monkeypatch.setattr(sums, "BLOCK_NUMEL", 77)
    monkeypatch.setattr("parallel_params.optim.blocks.BLOCK_BYTES", 4 * 333)
    assert_same_bits(train(rule, weight), want)


@EVERY_RULE
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_moves_and_stays_finite(
    rule: RoundRule, shape: tuple[int, ...]
) -> None:
    weight = draw(shape, np.float32)
    moved, state = train(rule, weight)
    assert moved.shape == shape
    assert np.all(moved != weight)
    assert all(np.all(np.isfinite(values)) for values in (moved, *state.values()))


@EVERY_RULE
@pytest.mark.parametrize("shape", [(4, 6), (5,), (2, 2, 2)], ids=str)
def test_weights_and_gradients_of_zero_stay(
    rule: RoundRule, shape: tuple[int, ...]
) -> None:
    weight = np.zeros(shape, np.float32)
    state = zero_state(rule, weight)
    for step in (1, 2):
        move_whole(rule, weight, weight.copy(), state, step=step, **NUMBERS)
    assert not weight.any()


@EVERY_RULE
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_rounds_once_per_step(rule: RoundRule, name: str) -> None:
    dtype = np.dtype(
        pytest.importorskip("ml_dtypes").bfloat16 if name[0] == "b" else name
    )
    weight, gradient = draw((8, 9), dtype), draw((8, 9), dtype, 1)
    wide = weight.astype(np.float32)
    state, wide_state = zero_state(rule, weight), zero_state(rule, wide)
    move_whole(rule, weight, gradient, state, step=1, **NUMBERS)
    move_whole(rule, wide, gradient.astype(np.float32), wide_state, step=1, **NUMBERS)
    assert_same_bits((weight, state), (wide.astype(dtype), wide_state))


@EVERY_RULE
def test_a_power_of_two_as_gradient_scale_equals_a_scaled_gradient(
    rule: RoundRule,
) -> None:
    weight, gradient = draw((6, 7)), draw((6, 7), seed=1)
    twin = weight.copy()
    numbers: dict[str, Any] = {"step": 1, "learning_rate": 0.1, "weight_decay": 0.2}
    move_whole(rule, weight, gradient, zero_state(rule, weight), **numbers)
    move_whole(
        rule,
        twin,
        4 * gradient,
        zero_state(rule, weight),
        gradient_scale=0.25,
        **numbers,
    )
    np.testing.assert_allclose(twin, weight, rtol=REORDERED, atol=REORDERED)


def lamb_in_words(
    w: Array, g: Array, s: State, t: int, rate: float, decay: float
) -> Array:
    s["lamb_m"] = 0.9 * s["lamb_m"] + 0.1 * g
    s["lamb_v"] = 0.999 * s["lamb_v"] + 0.001 * g**2
    root = np.sqrt(s["lamb_v"] / (1 - 0.999**t)) + 1e-6
    u = s["lamb_m"] / (1 - 0.9**t) / root + decay * w
    ratio = min(MAX_RATIO, float(np.linalg.norm(w) / np.linalg.norm(u)))
    return np.asarray(w - rate * ratio * u)


def lars_in_words(
    w: Array, g: Array, s: State, t: int, rate: float, decay: float
) -> Array:
    return lars(w, g, s, rate, decay, is_clipped=False)


def clipped_lars_in_words(
    w: Array, g: Array, s: State, t: int, rate: float, decay: float
) -> Array:
    return lars(w, g, s, rate, decay, is_clipped=True)


def lars(
    w: Array, g: Array, s: State, rate: float, decay: float, *, is_clipped: bool
) -> Array:
    long, steep = float(np.linalg.norm(w)), float(np.linalg.norm(g))
    trust = 0.02 * long / (steep + decay * long + 1e-5)
    trust = min(trust / rate, 1) if is_clipped else trust
    s["moments"] = 0.9 * s["moments"] + trust * (g + decay * w)
    return np.asarray(w - rate * s["moments"])


def adafactor_in_words(
    w: Array, g: Array, s: State, t: int, rate: float, decay: float
) -> Array:
    beta, squares = 1 - t**-0.8, g**2 + 1e-30
    if w.ndim == 2:
        row, column = "exp_avg_sq_row", "exp_avg_sq_col"
        s[row] = beta * s[row] + (1 - beta) * squares.mean(1)
        s[column] = beta * s[column] + (1 - beta) * squares.mean(0)
        v = np.outer(s[row] / s[row].mean(), s[column])
    else:
        v = s["exp_avg_sq"] = beta * s["exp_avg_sq"] + (1 - beta) * squares
    u = g / np.sqrt(v)
    u = u / max(1, np.sqrt((u**2).mean()))
    rate *= max(1e-3, np.sqrt((w**2).mean()))
    s["exp_avg"] = 0.9 * s["exp_avg"] + 0.1 * rate * u
    return np.asarray(w - rate * decay * w - s["exp_avg"])


MOMENTUM = MomentumRule(momentum=0.9)
Words = Callable[[Array, Array, State, int, float, float], Array]
IN_WORDS: dict[str, tuple[RoundRule, Words]] = {
    "LAMB": (LambRule(), lamb_in_words),
    "LARS": (LarsRule(inner=MOMENTUM, coefficient=0.02), lars_in_words),
    "LARS clipped": (
        LarsRule(inner=MOMENTUM, coefficient=0.02, use_clip=True),
        clipped_lars_in_words,
    ),
    "Adafactor": (AdafactorRule(beta1=0.9, relative_step=False), adafactor_in_words),
}


@pytest.mark.parametrize("name", IN_WORDS)
@pytest.mark.parametrize("shape", [(30, 50), (40,), (3, 4, 5), ()], ids=str)
def test_a_rule_is_what_the_papers_say(name: str, shape: tuple[int, ...]) -> None:
    rule, words = IN_WORDS[name]
    want, wanted_state = draw(shape), zero_state(rule, draw(shape))
    for step in range(1, 11):
        gradient = 0.5 * draw(shape, seed=step)
        want = words(want, gradient, wanted_state, step, 0.1, 0.05)
    got, state = train(rule, draw(shape), num_steps=10)
    np.testing.assert_allclose(got, want, rtol=REORDERED, atol=REORDERED)
    for slot, values in wanted_state.items():
        np.testing.assert_allclose(state[slot], values, rtol=REORDERED, atol=REORDERED)


@pytest.mark.parametrize("warmup_init", [False, True])
def test_a_relative_step_falls_with_the_root_of_the_step(warmup_init: bool) -> None:
    rule = AdafactorRule(warmup_init=warmup_init, scale_parameter=False)
    for step, want in [(4, 1e-2), (40_000, 5e-3)]:
        weight, gradient = np.zeros(3), np.ones(3)
        state = {"exp_avg_sq": np.ones(3)}  # so that every update is 1
        move_whole(
            rule, weight, gradient, state, step=step, learning_rate=0, weight_decay=0
        )
        if warmup_init:
            want = min(want, 1e-6 * step)
        np.testing.assert_allclose(weight, -want, rtol=REORDERED)


def test_the_ratio_of_lamb_is_bounded() -> None:
    weight = np.full(4, 1e6)
    rule = LambRule()
    state = zero_state(rule, weight)
    move_whole(
        rule, weight, np.ones(4), state, step=1, learning_rate=1.0, weight_decay=0.0
    )
    # The first update of Adam is 1 everywhere.
    np.testing.assert_allclose(weight, 1e6 - MAX_RATIO, rtol=1e-9)


@pytest.mark.parametrize("inner", [MOMENTUM, AdamWRule()], ids=repr)
def test_what_lars_leaves_out_moves_as_without_it(
    inner: MomentumRule | AdamWRule,
) -> None:
    rule = LarsRule(inner=inner)
    got, state = train(rule, draw((5, 4)), is_adapted=False)
    want = draw((5, 4)).reshape(-1)
    wanted_state = {slot: np.zeros(20) for slot in inner.slots}
    for step in (1, 2):
        gradient = draw((5, 4), seed=step).reshape(-1)
        inner.update(
            want,
            gradient,
            wanted_state,
            step=step,
            learning_rate=0.1,
            weight_decay=0.0,
            gradient_scale=0.5,
        )
    assert got.tobytes() == want.tobytes()
    cut, cut_state = draw((5, 4)), zero_state(rule, got)
    for step in (1, 2):
        gradient = draw((5, 4), seed=step)
        numbers: Mapping[str, Any] = NUMBERS | {"step": step, "is_adapted": False}
        hand_cut.move_in_parts(rule, cut, gradient, cut_state, [0, 1], **numbers)
    assert_same_bits((cut, cut_state), (got, state))


def test_rules_say_what_they_keep_and_sum_of_every_shape() -> None:
    factored = Slots(row=("exp_avg_sq_row",), column=("exp_avg_sq_col",))
    assert slots_of(AdafactorRule(), (4, 6)) == factored
    for shape in [(), (5,), (2, 3, 4), (0, 3), (3, 0)]:
        assert slots_of(AdafactorRule(), shape) == Slots(element=("exp_avg_sq",))
        assert round_widths(AdafactorRule(), shape) == (1, 1)
    assert slots_of(AdafactorRule(beta1=0.9), (4, 6)).names == (
        "exp_avg",
        "exp_avg_sq_row",
        "exp_avg_sq_col",
    )
    assert round_widths(AdafactorRule(), (4, 6)) == (8, 1)
    assert slots_of(LambRule(), (3,)) == Slots(element=("lamb_m", "lamb_v"))
    assert slots_of(LarsRule(inner=SgdRule()), (3,)) == Slots()
    assert slots_of(SgdRule(momentum=0.9), (3,)) == Slots(element=("accum",))
    assert round_widths(SgdRule(), (3,)) == ()
    for rule in RULES:
        assert len(round_widths(rule, (4, 6))) == rule.num_rounds
        assert math.prod(round_widths(rule, ())) > 0
