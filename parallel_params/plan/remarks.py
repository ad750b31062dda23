"""Sentences about a plan: what is special, what has no effect, what it promises.

Each is a line of the page in `describe.py`; none decides anything.
"""

from collections.abc import Iterator

from parallel_params.plan.cost import Estimate
from parallel_params.plan.effects import (
    is_capped,
    list_idle_flags,
    outcome_of,
    wanted_level,
    why_whole,
)
from parallel_params.plan.memory import wire_bytes
from parallel_params.plan.place import place
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind, Level
from parallel_params.plan.spec import ParamSpec
from parallel_params.plan.text import format_bytes, name_some, plural


def list_special_parameters(plan: Plan) -> Iterator[str]:
    """Say which parameters are not treated like most, and why."""
    lists: dict[str, list[str]] = {}
    tied = []
    for spec in plan.params:
        for what in _what_is_special(plan, spec):
            lists.setdefault(what, []).append(spec.name)
        tied += [f"{alias} = {spec.name}" for alias in spec.aliases]
    for what in sorted(lists, key=lambda what: _ORDER.index(what.split(" ")[0])):
        yield f"{what}: {name_some(lists[what])}"
    if tied:
        yield f"tied (one storage, one gradient): {name_some(tied)}"


_ORDER = ("level", "kept", "weight", "private", "sliced", "frozen")


def _what_is_special(plan: Plan, spec: ParamSpec) -> Iterator[str]:
    found, level = outcome_of(plan, spec), wanted_level(plan.policy, spec)
    is_cuttable = level.cuts(Kind.STATE if found.is_trainable else Kind.WEIGHT)
    if is_cuttable and not found.cut and found.num_holders > 1:
        yield f"kept whole ({why_whole(plan, spec)})"
    elif level is not plan.policy.level:
        yield f"level {int(level)} (policy.override)"
    if is_capped(plan, spec):
        yield "weight not cut over nodes (tied: it is used at several places of a pass)"
    if found.num_slices > 1:
        what = "private (other values" if spec.slice_dim is None else "sliced (a slice"
        yield (
            f"{what} on each rank along axis {plan.mesh.layerwise_axis!r}, never sent "
            "along it; parallel_optimizer has no effect)"
        )
    if not found.is_trainable:
        yield "frozen (no gradient, no optimizer state)"


def list_idle_choices(plan: Plan) -> Iterator[str]:
    """Say what a user chose in vain."""
    for flag, why, names in list_idle_flags(plan):
        yield f"no effect: {flag} of {name_some(names)} ({why})"
    policy = plan.policy
    if policy.grains not in (None, plan.grains):
        yield (
            f"no effect: policy.grains = {policy.grains} (fast reduction takes the "
            "share of a rank as one grain)"
        )
    yield from _idle_overrides(plan)
    if policy.wire_dtype is not None and not any(
        wire_bytes(plan, b) < b.item_bytes and plan.lattice(b).num_nodes > 1
        for b in plan.buckets
    ):
        yield (
            f"no effect: policy.wire_dtype = {policy.wire_dtype!r} (no wider gradient "
            "travels between nodes)"
        )
    if policy.level > Level.NOTHING and not any(
        outcome_of(plan, spec).cut for spec in plan.params
    ):
        why = "one rank" if plan.mesh.size == 1 else "no parameter is cut"
        yield f"no effect: level {int(policy.level)} ({why})"


def _idle_overrides(plan: Plan) -> Iterator[str]:
    """Say which patterns set no level, because others do or nothing can be cut."""
    policy = plan.policy
    used = {
        policy.pattern_of(spec.names)
        for spec in plan.params
        if place(spec, mesh=plan.mesh, policy=policy).override is not None
    }
    for pattern in dict(policy.overrides):
        if pattern not in used:
            yield (
                f"no effect: policy.override of {pattern!r} (what it matches is kept "
                "whole, or matched again by a later pattern)"
            )


def list_promises(plan: Plan, costs: Estimate) -> Iterator[str]:
    """Say how a run starts, what canonical reduction costs and which bits repeat."""
    yield (
        "start: the ranks compare the digest of this plan and hashes of shared "
        "weights; only weights that differ are sent"
    )
    held = costs.heaviest.bytes_held
    if plan.policy.reduction == "canonical":
        pieces = f" and {format_bytes(held.receive)} to receive the pieces of a bucket"
        yield (
            f"canonical reduction costs {format_bytes(held.partials)} for partial sums "
            f"of {plural(plan.grains_per_rank, 'grain')}"
            f"{pieces if held.receive else ''}"
        )
    yield from promise_bits(plan)


def promise_bits(plan: Plan) -> Iterator[str]:
    """Say at which world sizes the weights end with the same bits."""
    if plan.is_same_bits_everywhere:
        condition = (
            "" if plan.policy.grains else f", with policy.grains = {plan.grains}"
        )
        most = plan.grains
        aside = ""
        if any(plan.group_size(b) < plan.mesh.size for b in plan.buckets):
            axis = plan.mesh.layerwise_axis
            aside = ", private parameters aside"
            if any(spec.slice_dim is not None for spec in plan.params):
                aside = (
                    f", as long as axis {axis!r} has as many (others round otherwise)"
                )
                if axis not in plan.mesh.batch_axes:
                    most *= plan.mesh.group_size((axis,)) if axis else 1
        yield (
            "bits: the same at every level and on any power of two up to "
            f"{plural(most, 'rank')}{condition}{aside}"
        )
        return
    why = f"grains = {plan.grains} is no power of two"
    if plan.policy.reduction == "fast":
        why = "fast reduction"
    elif plan.policy.wire_dtype is not None:
        why = f"gradients travel as {plan.policy.wire_dtype}"
    yield f"bits: repeatable for its own world size only ({why})"
    if plan.has_bits_of_node_map:
        yield "bits: they depend on which ranks share a node as well"
