"""Laws of the rules: no cut of an arena changes a bit, and the arithmetic is right."""

import hashlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parallel_params.optim import blocks
from parallel_params.optim.rule import Rule, state_dtype
from parallel_params.optim.rules.adam import AdamRule, AdamWeightDecayRule, AdamWRule
from parallel_params.optim.rules.sgd import MomentumRule, SgdRule

Array = NDArray[Any]

RULES: tuple[Rule, ...] = (
    SgdRule(),
    SgdRule(momentum=0.9),
    SgdRule(momentum=0.9, dampening=0.5),
    SgdRule(momentum=0.9, nesterov=True),
    MomentumRule(momentum=0.9),
    AdamRule(),
    AdamRule(use_nesterov=True),
    AdamWeightDecayRule(),
    AdamWRule(),
)
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=repr)

# Sums of a few products in another order: a few units in the last place of float64.
REORDERED = 1e-13


def draw(numel: int, dtype: np.dtype[Any] | type, salt: str = "") -> Array:
    """Return numbers that depend on nothing but the arguments."""
    seed = hashlib.sha256(f"{numel} {salt}".encode()).digest()
    return np.random.default_rng(list(seed)).normal(size=numel).astype(dtype)


def train(
    rule: Rule,
    weight: Array,
    cuts: tuple[int, ...] = (),
    *,
    num_steps: int = 2,
    weight_decay: float = 0.05,
    gradient_scale: float = 1.0,
) -> tuple[Array, Mapping[str, Array]]:
    """Run `rule` on a copy of `weight`, cut at `cuts`, with one rate and decay."""
    weight = weight.copy()
    state = {
        slot: np.zeros(weight.size, state_dtype(weight.dtype)) for slot in rule.slots
    }
    borders = (0, *sorted(cuts), weight.size)
    for step in range(1, num_steps + 1):
        gradient = draw(weight.size, weight.dtype, str(step))
        for start, stop in pairwise(borders):
            part = slice(start, stop)
            rule.update(
                weight[part],
                gradient[part],
                {slot: array[part] for slot, array in state.items()},
                step=step,
                learning_rate=0.01 * step,
                weight_decay=weight_decay,
                gradient_scale=gradient_scale,
            )
    return weight, state


def assert_cuts_change_no_bit(rule: Rule, weight: Array, cuts: tuple[int, ...]) -> None:
    """Assert that the parts of an arena, updated alone, are the parts of the whole."""
    whole, whole_state = train(rule, weight)
    parts, parts_state = train(rule, weight, cuts)
    assert whole.tobytes() == parts.tobytes()
    for slot in rule.slots:
        assert whole_state[slot].tobytes() == parts_state[slot].tobytes(), slot


@EVERY_RULE
@settings(max_examples=20)  # of nine rules each; the arithmetic has no rare branches
@given(data=st.data(), numel=st.integers(0, 150), is_double=st.booleans())
def test_where_an_arena_is_cut_changes_no_bit(
    rule: Rule, data: st.DataObject, numel: int, is_double: bool
) -> None:
    cuts = data.draw(st.lists(st.integers(0, numel), max_size=5))
    weight = draw(numel, np.float64 if is_double else np.float32)
    assert_cuts_change_no_bit(rule, weight, tuple(cuts))


@EVERY_RULE
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_blocks_change_no_bit(
    rule: Rule, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = draw(1000, dtype)
    one_block, _ = train(rule, weight)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * 77)  # ragged at the end
    many_blocks, _ = train(rule, weight)
    assert one_block.tobytes() == many_blocks.tobytes()


def test_an_arena_of_several_blocks_is_updated_to_its_end() -> None:
    weight = draw(2 * blocks.BLOCK_BYTES // 4 + 5, np.float32)
    assert_cuts_change_no_bit(AdamWRule(), weight, (3, weight.size - 2))
    moved, _ = train(AdamWRule(), weight)
    assert np.all(moved != weight)


@EVERY_RULE
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("gradient_scale", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_gradient_is_only_read(
    rule: Rule, weight_decay: float, gradient_scale: float, dtype: type
) -> None:
    weight, gradient = draw(9, dtype), draw(9, dtype, "gradient")
    gradient.flags.writeable = False
    rule.update(
        weight,
        gradient,
        {slot: np.zeros(9, np.float32) for slot in rule.slots},
        step=1,
        learning_rate=0.1,
        weight_decay=weight_decay,
        gradient_scale=gradient_scale,
    )


@EVERY_RULE
def test_a_power_of_two_as_gradient_scale_equals_a_scaled_gradient(rule: Rule) -> None:
    # A power of two scales without rounding: only the order of products differs.
    weight = draw(40, np.float64)
    state, scaled_state = ({s: np.zeros(40) for s in rule.slots} for _ in range(2))
    scaled = weight.copy()
    for step in (1, 2, 3):
        gradient = draw(40, np.float64, str(step))
        rule.update(
            weight,
            0.25 * gradient,
            state,
            step=step,
            learning_rate=0.1,
            weight_decay=0.2,
        )
        rule.update(
            scaled,
            gradient,
            scaled_state,
            step=step,
            learning_rate=0.1,
            weight_decay=0.2,
            gradient_scale=0.25,
        )
    np.testing.assert_allclose(scaled, weight, rtol=REORDERED, atol=REORDERED)


@EVERY_RULE
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_rounds_once_per_step(rule: Rule, name: str) -> None:
    dtype = np.dtype(
        pytest.importorskip("ml_dtypes").bfloat16 if name[0] == "b" else name
    )
    weight, gradient = draw(50, dtype), draw(50, dtype, "gradient")
    wide = weight.astype(np.float32)
    numbers: dict[str, Any] = {
        "step": 1,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
        "gradient_scale": 0.3,
    }
    state, wide_state = (
        {slot: np.zeros(50, np.float32) for slot in rule.slots} for _ in range(2)
    )
    rule.update(weight, gradient, state, **numbers)
    rule.update(wide, gradient.astype(np.float32), wide_state, **numbers)
    assert weight.dtype == dtype
    np.testing.assert_array_equal(weight, wide.astype(dtype))
    for slot in rule.slots:
        np.testing.assert_array_equal(state[slot], wide_state[slot])


def test_a_wide_gradient_is_rounded_to_the_type_of_the_weight() -> None:
    gradient = draw(20, np.float64)
    weights = [np.ones(20, np.float32) for _ in range(2)]
    for weight, given_gradient in zip(
        weights, (gradient, gradient.astype(np.float32)), strict=True
    ):
        SgdRule().update(
            weight, given_gradient, {}, step=1, learning_rate=0.3, weight_decay=0.0
        )
    np.testing.assert_array_equal(weights[0], weights[1])


def adam_in_words(
    *, decoupled: bool, is_corrected: bool, eps_is_corrected: bool, eps: float
) -> Callable[..., tuple[Array, Array, Array]]:
    """Return Adam as the papers write it, one expression after the other."""

    def move(
        w: Array, g: Array, m: Array, v: Array, step: int, rate: float, decay: float
    ) -> tuple[Array, Array, Array]:
        d = g if decoupled else g + decay * w
        m, v = 0.9 * m + 0.1 * d, 0.999 * v + 0.001 * d**2
        root1 = 1 - 0.9**step if is_corrected else 1.0
        root2 = np.sqrt(1 - 0.999**step) if is_corrected else 1.0
        eps_now = eps * (1.0 if eps_is_corrected else 1 / root2)
        move_by = (m / root1) / (np.sqrt(v) / root2 + eps_now)
        return w - rate * (move_by + (decay * w if decoupled else 0)), m, v

    return move


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            AdamRule(eps=0.01),
            adam_in_words(
                decoupled=False, is_corrected=True, eps_is_corrected=False, eps=0.01
            ),
        ),
        (
            AdamWRule(eps=0.01),
            adam_in_words(
                decoupled=True, is_corrected=True, eps_is_corrected=True, eps=0.01
            ),
        ),
        (
            AdamWeightDecayRule(eps=0.01),
            adam_in_words(
                decoupled=True, is_corrected=False, eps_is_corrected=True, eps=0.01
            ),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_adam_is_what_the_papers_say(
    rule: Rule,
    words: Callable[..., tuple[Array, Array, Array]],
    weight_decay: float,
) -> None:
    weight = draw(30, np.float64)
    want, m, v = weight, np.zeros(30), np.zeros(30)
    for step in range(1, 21):
        gradient = draw(30, np.float64, str(step))
        want, m, v = words(want, gradient, m, v, step, 0.01 * step, weight_decay)
    got, state = train(rule, weight, num_steps=20, weight_decay=weight_decay)
    np.testing.assert_allclose(got, want, rtol=REORDERED, atol=REORDERED)
    np.testing.assert_allclose(state[rule.slots[0]], m, rtol=REORDERED, atol=REORDERED)
    np.testing.assert_allclose(state[rule.slots[1]], v, rtol=REORDERED)


def test_nesterov_in_adam_looks_ahead_along_the_first_moment() -> None:
    weight, gradient = np.ones(1), np.full(1, 3.0)
    state = {"moment1": np.full(1, 0.5), "moment2": np.full(1, 2.0)}
    AdamRule(use_nesterov=True, eps=0.01).update(
        weight, gradient, state, step=2, learning_rate=0.1, weight_decay=0.0
    )
    m, v = 0.9 * 0.5 + 0.1 * 3, 0.999 * 2 + 0.001 * 9
    rate = 0.1 * np.sqrt(1 - 0.999**2) / (1 - 0.9**2)
    want = 1 - rate * (0.9 * m + 0.1 * 3) / (np.sqrt(v) + 0.01)
    np.testing.assert_allclose(weight, want, rtol=REORDERED)


def test_rules_name_their_state_and_compare_by_settings() -> None:
    assert [rule.slots for rule in RULES[:2]] == [(), ("accum",)]
    assert MomentumRule(momentum=0.0).slots == ("moments",)
    assert AdamRule().slots == AdamWRule().slots == ("moment1", "moment2")
    assert AdamWeightDecayRule().slots == ("adam_m", "adam_v")
    assert {rule.structure for rule in RULES} == {"element"}
    assert len({SgdRule(), SgdRule(momentum=0.0), SgdRule(momentum=0.1)}) == 2
