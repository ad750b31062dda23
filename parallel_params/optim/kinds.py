"""Which kind of rule one is, and what state it keeps of a parameter."""

from typing import TypeGuard

from parallel_params.optim.rule import (
    AnyRule,
    EvaluatedRule,
    PairRule,
    RoundRule,
    Rule,
    Shape,
    ShapedRule,
    Slots,
)


def is_round_rule(rule: object) -> TypeGuard[RoundRule]:
    """Whether a rule works in rounds."""
    return hasattr(rule, "moves")


def is_plain_rule(rule: object) -> TypeGuard[Rule]:
    """Whether a rule moves what it gets in one call."""
    return hasattr(rule, "update")


def is_pair_rule(rule: object) -> TypeGuard[PairRule]:
    """Whether a rule adds two summands of the gradient by itself."""
    return hasattr(rule, "update_pair")


def is_evaluated_rule(rule: object) -> TypeGuard[EvaluatedRule]:
    """Whether a rule has other weights to evaluate with."""
    return hasattr(rule, "evaluation")


def slots_of(rule: AnyRule, shape: Shape) -> Slots:
    """Return the state that `rule` keeps of a parameter of this shape."""
    if _is_shaped(rule):
        return rule.slots_of(shape)
    return _plain_slots(rule)


def _is_shaped(rule: object) -> TypeGuard[RoundRule | ShapedRule]:
    return hasattr(rule, "slots_of")


def _plain_slots(rule: AnyRule) -> Slots:
    return Slots(element=rule.slots) if is_plain_rule(rule) else Slots()


def round_widths(rule: AnyRule, shape: Shape) -> tuple[int, ...]:
    """Return how many numbers each round of `rule` sums over such a parameter."""
    return rule.round_widths(shape) if is_round_rule(rule) else ()
