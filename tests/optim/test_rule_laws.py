"""Every shipped rule keeps every law, and at every law a broken rule is caught."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from parallel_params import optim
from parallel_params.errors import BrokenLaw
from parallel_params.optim.kinds import is_plain_rule, is_round_rule
from parallel_params.optim.rule import AnyRule, state_dtype
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array
from parallel_params.testing import LAWS, check_rule

SHIPPED: tuple[AnyRule, ...] = (
    optim.SgdRule(),
    optim.SgdRule(momentum=0.9, dampening=0.1),
    optim.SgdRule(momentum=0.9, nesterov=True),
    optim.MomentumRule(momentum=0.9),
    optim.AdamRule(),
    optim.AdamRule(use_nesterov=True),
    optim.AdamWRule(),
    optim.AdamWeightDecayRule(),
    optim.AmsGradRule(),
    optim.AmsGradRule(is_decoupled=True),
    optim.AdaMaxRule(),
    optim.NAdamRule(),
    optim.NAdamRule(is_decoupled=True),
    optim.RAdamRule(beta2=0.9),
    optim.RAdamRule(beta2=0.5, is_decoupled=True),  # rectified from the first steps on
    optim.AdagradRule(),
    optim.AdadeltaRule(),
    optim.RmsPropRule(),
    optim.RmsPropRule(momentum=0.9, centered=True),
    optim.RpropRule(),
    optim.FtrlRule(l1=0.1, l2=0.1),
    optim.FtrlRule(power=-0.7),
    optim.LionRule(),
    optim.ScheduleFreeAdamWRule(warmup=2),
    optim.LambRule(),
    optim.LarsRule(inner=optim.SgdRule()),
    optim.LarsRule(inner=optim.AdamRule(), use_clip=True),
    optim.AdafactorRule(),
    optim.AdafactorRule(beta1=0.9, relative_step=False, scale_parameter=False),
    optim.MuonRule(),
    optim.SoapRule(frequency=2),
    optim.SoapRule(frequency=2, max_side=3),
    optim.SoapRule(is_one_sided=True),
    optim.AveragedRule(inner=optim.AdamWRule()),
    optim.AveragedRule(inner=optim.MuonRule(), averaging=optim.Averaging(start=1)),
    optim.AveragedRule(inner=optim.SoapRule()),
    optim.AveragedRoundRule(
        inner=optim.AdafactorRule(), averaging=optim.Averaging(decay=None)
    ),
)
NUM_WORLDS = 4  # per rule; `check_rule` opens more if it is not told
WORLDS = "sharded is serial"


@pytest.mark.parametrize("rule", SHIPPED, ids=repr)
def test_a_shipped_rule_keeps_every_law(rule: AnyRule) -> None:
    check_rule(rule, laws=[law for law in LAWS if law != WORLDS])
    check_rule(rule, laws=[WORLDS], num_cases=NUM_WORLDS)


def test_all_shipped_rules_are_tried() -> None:
    shipped: set[object] = {
        value
        for value in vars(optim).values()
        if isinstance(value, type)
        and (is_plain_rule(value) or is_round_rule(value))
        and value not in (optim.Rule, optim.ShapedRule, optim.RoundRule, optim.AnyRule)
    }
    assert {type(rule) for rule in SHIPPED} == shipped


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Descent along an average of gradients; rules below get one thing wrong."""

    structure: ClassVar[Structure] = "element"
    slots: ClassVar[tuple[str, ...]] = ("average",)

    def update(
        self,
        weight: Array,
        gradient: Array,
        state: Mapping[str, Array],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float = 1.0,
    ) -> None:
        dtype = state_dtype(weight.dtype)
        scaled = gradient.astype(dtype) * np.array(gradient_scale, dtype)
        state["average"][...] = self.average(scaled, state["average"], step)
        rate = np.array(learning_rate, dtype)
        weight[...] = weight.astype(dtype) - rate * state["average"]

    def average(self, gradient: Array, before: Array, step: int) -> Array:
        return np.asarray((gradient + before) * np.array(0.5, gradient.dtype))


class NotFrozen(Descent):
    def __repr__(self) -> str:
        return f"<rule at {id(self):#x}>"


class Remembers(Descent):
    calls: ClassVar[list[int]] = []

    def average(self, gradient: Array, before: Array, step: int) -> Array:
        self.calls.append(step)
        return np.asarray(gradient * np.array(len(self.calls), gradient.dtype))


class Writes(Descent):
    def update(
        self,
        weight: Array,
        gradient: Array,
        state: Mapping[str, Array],
        **numbers: float,
    ) -> None:
        super().update(weight, gradient, state, **numbers)  # type: ignore[arg-type]  # step is one
        gradient *= 0


class Unscaled(Descent):
    def update(
        self,
        weight: Array,
        gradient: Array,
        state: Mapping[str, Array],
        **numbers: float,
    ) -> None:
        super().update(weight, gradient, state, **numbers | {"gradient_scale": 1.0})  # type: ignore[arg-type]  # as above


class Normalised(Descent):
    """Divides by the norm of what it is given, which is that of a part."""

    def average(self, gradient: Array, before: Array, step: int) -> Array:
        return np.asarray(gradient / (1 + np.abs(gradient).sum()))


class ForgetsItsState(Descent):
    """Keeps its average where nobody can save it."""

    kept: ClassVar[dict[int, Array]] = {}

    def average(self, gradient: Array, before: Array, step: int) -> Array:
        old = self.kept.get(before.ctypes.data, np.zeros_like(gradient))
        if step == 1 or old.shape != gradient.shape:
            old = np.zeros_like(gradient)
        self.kept[before.ctypes.data] = new = np.asarray(gradient + old)
        return new


class Divides(Descent):
    def average(self, gradient: Array, before: Array, step: int) -> Array:
        return np.asarray(gradient / np.abs(gradient))


class RoundsState(Descent):
    def update(
        self,
        weight: Array,
        gradient: Array,
        state: Mapping[str, Array],
        **numbers: float,
    ) -> None:
        low = weight.dtype
        super().update(weight, gradient, state, **numbers)  # type: ignore[arg-type]  # as above
        if low.itemsize == 2:
            weight[...] = np.nextafter(weight.astype(np.float16), np.float16(9)).astype(
                low
            )


class Single(Descent):
    def update(
        self,
        weight: Array,
        gradient: Array,
        state: Mapping[str, Array],
        **numbers: float,
    ) -> None:
        wide = weight.astype(np.float32)
        super().update(wide, gradient, state, **numbers)  # type: ignore[arg-type]  # as above
        weight[...] = wide


class EvaluatesInPlace(Descent):
    def evaluation(self, weight: Array, state: Mapping[str, Array]) -> Array:
        weight += 1
        return weight


BROKEN: dict[str, AnyRule] = {
    "declares itself": NotFrozen(),
    "keeps nothing between calls": Remembers(),
    "only reads gradients": Writes(),
    "honours the gradient scale": Unscaled(),
    "may be cut": Normalised(),
    "may be resumed": ForgetsItsState(),
    "takes no gradient": Divides(),
    "rounds low precision once": RoundsState(),
    "computes in float64": Single(),
    "evaluates without a trace": EvaluatesInPlace(),
    "sharded is serial": Normalised(),
}


def test_the_rule_that_the_broken_ones_are_made_from_keeps_every_law() -> None:
    check_rule(Descent(), num_cases=NUM_WORLDS)


@pytest.mark.parametrize("law", LAWS)
def test_a_rule_that_breaks_a_law_is_caught_at_it(law: str) -> None:
    with pytest.raises(BrokenLaw, match=rf"breaks 1 of 1 laws:\n  {law}: "):
        check_rule(BROKEN[law], laws=[law])


@pytest.mark.parametrize("law", ["may be cut", "sharded is serial"])
def test_a_report_says_how_to_see_the_case_again(law: str) -> None:
    rule = BROKEN[law]
    with pytest.raises(BrokenLaw) as caught:
        check_rule(rule, laws=[law], seed=3)
    text = str(caught.value)
    again = re.search(r"again: (check_rule\(.*\))", text)
    assert again is not None
    with pytest.raises(BrokenLaw) as second:
        eval(again[1], {"check_rule": check_rule, "rule": rule})
    assert str(second.value) == text
    assert re.search(
        r"differs in \d+ of \d+ elements; the first is \w+\[[\d, ]*\]", text
    )


def test_a_report_names_every_law_that_is_broken() -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_rule(Unscaled(), num_cases=2)
    for law in ("honours the gradient scale", "sharded is serial"):
        assert f"\n  {law}: " in str(caught.value)


def test_a_report_of_success_counts_what_was_tried() -> None:
    report = optim.check_rule(optim.SgdRule(), laws=["may be cut"], num_cases=3, seed=5)
    assert report.cases == {"may be cut": 3}
    assert "keeps 1 laws in 3 cases of seed 5: may be cut" in str(report)


def test_a_structure_that_there_is_not_is_named() -> None:
    class Stranger(Descent):
        structure: ClassVar[Structure] = "anywhere"  # type: ignore[assignment]  # wrong

    with pytest.raises(BrokenLaw, match="structure is 'anywhere', not one of"):
        check_rule(Stranger(), laws=["declares itself"])


def test_a_class_is_made_first() -> None:
    by_class = check_rule(optim.AdamWRule, num_cases=1, laws=["may be cut"])
    assert by_class == check_rule(optim.AdamWRule(), num_cases=1, laws=["may be cut"])
    with pytest.raises(
        TypeError, match=r"AveragedRule cannot be .*AveragedRule\(\.\.\."
    ):
        check_rule(optim.AveragedRule)


@pytest.mark.parametrize("wrong", [object, object(), 3], ids=str)
def test_what_is_no_rule_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="check_rule takes a rule"):
        check_rule(wrong)  # type: ignore[arg-type]  # refused


def test_unknown_laws_and_no_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="no law 'gravity'; the laws are"):
        check_rule(optim.SgdRule(), laws=["gravity"])
    with pytest.raises(ValueError, match="no shape to try"):
        check_rule(optim.SgdRule(), shapes=[])
    with pytest.raises(ValueError, match="no case to try"):
        check_rule(optim.SgdRule(), num_cases=0)
