"""The compiled rules have the bits of NumPy's, whatever they are given."""

from itertools import pairwise, product

import numpy as np
import pytest
from kernel_sets import kernels_as
from numpy.typing import NDArray

from parallel_params.optim.kinds import is_pair_rule
from parallel_params.optim.rule import PairRule, Rule, state_dtype
from parallel_params.optim.rules.adam import AdamRule, AdamWeightDecayRule, AdamWRule
from parallel_params.optim.rules.sgd import MomentumRule, SgdRule
from parallel_params.tensor.kernel_set import Choice

RULES: tuple[Rule, ...] = (
    SgdRule(),
    SgdRule(momentum=0.9, dampening=0.3),
    SgdRule(momentum=0.9, nesterov=True),
    MomentumRule(momentum=0.9),
    AdamRule(),
    AdamRule(use_nesterov=True),
    AdamWeightDecayRule(),
    AdamWRule(),
)
Bits = list[bytes]


def train(
    rule: Rule,
    numel: int,
    dtype: type[np.generic] = np.float32,
    *,
    weight_decay: float = 0.05,
    gradient_scale: float = 0.3,
    cuts: tuple[int, ...] = (),
    stride: int = 1,
) -> Bits:
    """Take two steps on a weight with numbers of all sizes; return all bits."""
    rng = np.random.default_rng(numel)
    limit = 4 if dtype is np.float16 else 30
    weight, *gradients = (
        (rng.standard_normal(numel) * 10.0 ** rng.integers(-limit, limit, numel))
        .astype(dtype)
        .repeat(stride)[::stride]
        for _ in range(3)
    )
    gradients[1][::7] = [np.inf, np.nan, 0.0][numel % 3]
    kind = state_dtype(weight.dtype)
    state = {slot: np.zeros(numel, kind) for slot in rule.slots}
    borders = (0, *cuts, numel)
    for step, gradient in enumerate(gradients, 1):
        for start, stop in pairwise(borders):
            part = slice(start, stop)
            with np.errstate(all="ignore"):
                rule.update(
                    weight[part],
                    gradient[part],
                    {slot: values[part] for slot, values in state.items()},
                    step=step,
                    learning_rate=0.01,
                    weight_decay=weight_decay,
                    gradient_scale=gradient_scale,
                )
    return [_bits(array) for array in (weight, *state.values())]


def _bits(array: NDArray[np.generic]) -> bytes:
    """Every not-a-number as the same one: its payload is the processor's affair."""
    return np.where(np.isnan(array), np.array(np.nan, array.dtype), array).tobytes()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_compiled_rules_have_the_bits_of_numpy(rule: Rule) -> None:
    cases = [
        dict(numel=numel, dtype=dtype, weight_decay=decay, gradient_scale=scale)
        for numel, dtype, decay, scale in product(
            (0, 1, 67, 1001), (np.float32, np.float64), (0.0, 0.05), (1.0, 0.3)
        )
    ]
    want = [train(rule, **case) for case in cases]  # type: ignore[arg-type]
    with kernels_as("fast"):
        assert [train(rule, **case) for case in cases] == want  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_cut_anywhere_changes_no_bit_of_a_compiled_rule(rule: Rule) -> None:
    with kernels_as("fast"):
        whole = train(rule, 70)
        # Up to four vector registers of sixteen, and every remainder.
        assert all(train(rule, 70, cuts=(cut,)) == whole for cut in range(71))


@pytest.mark.parametrize("rule", [AdamWRule(), SgdRule(momentum=0.9)], ids=repr)
def test_what_is_not_compiled_is_left_to_numpy(rule: Rule) -> None:
    want = train(rule, 67, np.float16), train(rule, 67, stride=2)
    with kernels_as("fast"):
        assert (train(rule, 67, np.float16), train(rule, 67, stride=2)) == want


@pytest.mark.parametrize("kernels", ["numpy", "fast"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("rule", [r for r in RULES if is_pair_rule(r)], ids=repr)
def test_a_pair_of_gradients_moves_what_their_sum_does(
    rule: PairRule, dtype: type[np.generic], kernels: Choice
) -> None:
    rng = np.random.default_rng(3)
    numel = 70_000  # more than a block
    left, right, weight = rng.standard_normal((3, numel)).astype(dtype)
    options = dict(step=2, learning_rate=0.1, weight_decay=0.05, gradient_scale=0.3)
    ends = []
    with kernels_as(kernels):
        for pair in ((), (left, right)):
            own = weight.copy()
            kind = state_dtype(own.dtype)
            state = {slot: np.full(numel, 0.5, kind) for slot in rule.slots}
            if pair:
                rule.update_pair(own, *pair, state, **options)  # type: ignore[arg-type]
            else:
                rule.update(own, left + right, state, **options)  # type: ignore[arg-type]
            ends.append([array.tobytes() for array in (own, *state.values())])
    assert ends[0] == ends[1]
