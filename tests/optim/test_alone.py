"""Whole parameters under rules of every structure, as an optimizer alone moves them."""

from typing import Any

import numpy as np
import pytest

from parallel_params.optim.alone import leaf_edges, move_whole, state_shape
from parallel_params.optim.kinds import is_plain_rule, slots_of
from parallel_params.optim.rule import AnyRule, Slots
from parallel_params.optim.rules.adafactor import AdafactorRule
from parallel_params.optim.rules.adam import AdamWRule
from parallel_params.optim.rules.lamb import LambRule
from parallel_params.optim.rules.lars import LarsRule
from parallel_params.optim.rules.muon import MuonRule
from parallel_params.optim.rules.sgd import MomentumRule
from parallel_params.tensor.tape import Array

RULES: tuple[AnyRule, ...] = (
    AdamWRule(),
    LambRule(),
    LarsRule(inner=MomentumRule(momentum=0.9)),
    AdafactorRule(),
    MuonRule(),
)
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.structure)
NUMBERS: dict[str, Any] = {"step": 1, "learning_rate": 0.1, "weight_decay": 0.01}


def draw(seed: int, shape: tuple[int, ...] = (3, 4)) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def state_of(rule: AnyRule, shape: tuple[int, ...] = (3, 4)) -> dict[str, Array]:
    slots = slots_of(rule, shape)
    return {
        slot: np.zeros(state_shape(slots, slot, shape), np.float32)
        for slot in slots.names
    }


@EVERY_RULE
def test_gaps_in_memory_change_no_bit(rule: AnyRule) -> None:
    want, arena = draw(0), np.full((6, 8), 7, np.float32)
    gapped = arena[::2, ::2]
    gapped[...] = want
    move_whole(rule, want, draw(1), state_of(rule), **NUMBERS)
    gradient = np.asfortranarray(draw(1))
    move_whole(rule, gapped, gradient, state_of(rule), **NUMBERS)
    np.testing.assert_array_equal(gapped, want)
    assert np.all(arena[1::2] == 7)
    assert np.all(arena[:, 1::2] == 7)


@EVERY_RULE
@pytest.mark.parametrize("gradient_scale", [1.0, 0.5])
def test_the_gradient_of_a_whole_parameter_is_only_read(
    rule: AnyRule, gradient_scale: float
) -> None:
    gradient = draw(1)
    gradient.flags.writeable = False
    move_whole(
        rule,
        draw(0),
        gradient,
        state_of(rule),
        gradient_scale=gradient_scale,
        **NUMBERS,
    )


def test_a_whole_parameter_is_cut_at_leaves() -> None:
    assert leaf_edges(LambRule(), (3, 1000)).tolist() == [0, 1024, 2048, 3000]
    assert leaf_edges(LambRule(), ()).tolist() == [0, 1]
    assert leaf_edges(LambRule(), (0,)).tolist() == [0]
    assert leaf_edges(AdafactorRule(), (3, 2, 2)).tolist() == [0, 4, 8, 12]
    assert leaf_edges(AdafactorRule(), (3,)).tolist() == [0, 1, 2, 3]
    assert leaf_edges(AdafactorRule(), (3, 0)).tolist() == [0]
    assert leaf_edges(AdafactorRule(), ()).tolist() == [0, 1]


def test_state_has_the_shape_of_what_it_is_of() -> None:
    slots = Slots(element=("e",), row=("r",), column=("c",))
    assert slots.names == ("e", "r", "c")
    shapes = [state_shape(slots, slot, (3, 4)) for slot in slots.names]
    assert shapes == [(3, 4), (3,), (4,)]


def orthogonal_in_words(matrix: Array, num_iterations: int) -> Array:
    """Return the polynomial of Newton-Schulz of the singular values."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(num_iterations):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return np.asarray(u * s @ v)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (5, 5), (1, 4), (4, 1)], ids=str)
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("num_iterations", [1, 5])
def test_muon_is_what_its_words_say(
    shape: tuple[int, int], nesterov: bool, num_iterations: int
) -> None:
    rule = MuonRule(nesterov=nesterov, num_iterations=num_iterations)
    weight = draw(0, shape).astype(np.float64)
    want, average = weight.copy(), np.zeros(shape)
    state = {"momentum_buffer": np.zeros(shape)}
    for step in (1, 2, 3):
        g = draw(step, shape).astype(np.float64)
        average = 0.95 * average + 0.05 * g
        matrix = 0.05 * g + 0.95 * average if nesterov else average
        rate = 0.1 * np.sqrt(max(1, shape[0] / shape[1]))
        want = (1 - 0.1 * 0.01) * want - rate * orthogonal_in_words(
            matrix, num_iterations
        )
        move_whole(rule, weight, 2 * g, state, gradient_scale=0.5, **NUMBERS)
    np.testing.assert_allclose(weight, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_muon_of_half_precision_rounds_once_per_step(dtype: str) -> None:
    half = np.dtype(
        pytest.importorskip("ml_dtypes").bfloat16 if dtype[0] == "b" else dtype
    )
    rule = MuonRule()
    weight = draw(0).astype(half)
    wide, gradient = weight.astype(np.float32), draw(1).astype(half)
    state, wide_state = state_of(rule), state_of(rule)
    move_whole(rule, weight, gradient, state, **NUMBERS)
    move_whole(rule, wide, gradient.astype(np.float32), wide_state, **NUMBERS)
    np.testing.assert_array_equal(weight, wide.astype(half))
    np.testing.assert_array_equal(
        state["momentum_buffer"], wide_state["momentum_buffer"]
    )


def test_muon_of_nothing_moves_nothing() -> None:
    rule = MuonRule()
    assert is_plain_rule(rule)
    empty = np.zeros((0, 3), np.float32)
    rule.update(empty, empty, {"momentum_buffer": empty}, **NUMBERS)
    still = np.zeros((2, 3), np.float32)
    move_whole(rule, still, still.copy(), state_of(rule, (2, 3)), **NUMBERS)
    assert not still.any()
