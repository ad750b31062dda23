"""What the flags of a parameter come to, found by flipping them.

Never asks what a flag means: a flag has an effect if the parameter would be placed
differently without it. So this page cannot disagree with the plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from parallel_params.errors import PlanError
from parallel_params.plan.lattice import lattice_of
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.pack import Placement, Whole
from parallel_params.plan.place import place
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind, Level, Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.plan.text import format_bytes

FLAGS = ("requires_grad", "layerwise_parallel", "parallel_optimizer")

_DEFAULTS = {field.name: field.default for field in fields(ParamSpec)}


def flip(spec: ParamSpec, flag: str) -> ParamSpec:
    """Return the parameter with one flag the other way round."""
    values = {field.name: getattr(spec, field.name) for field in fields(ParamSpec)}
    values[flag] = not values[flag]
    # What is trained follows its gradient and nothing else.
    values["is_statistic"] = spec.is_statistic and not values["requires_grad"]
    return ParamSpec(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a placement means on one mesh, under one policy.

    Attributes:
        is_trainable: Whether there are gradients and optimizer state.
        num_holders: Ranks that share the values.
        num_slices: Different sets of values in the world.
        num_nodes: Over which the holders lie.
        cut: Kinds of storage of which each rank, or each node, holds only a part.
        has_node_weight: Whether the ranks of a node share one copy of the weight, or
            of its part.
    """

    is_trainable: bool
    num_holders: int
    num_slices: int
    num_nodes: int
    cut: tuple[Kind, ...]
    has_node_weight: bool


def outcome(placement: Placement, *, mesh: Mesh, policy: Policy) -> Outcome:
    """Return what a placement means."""
    lattice = lattice_of(mesh, placement.axes, policy.transport)
    level, is_trainable = placement.level, placement.is_trainable
    possible = {
        Kind.WEIGHT: lattice.num_nodes > 1,
        Kind.GRADIENT: is_trainable and lattice.size > 1,
        Kind.STATE: is_trainable and lattice.size > 1,
    }
    is_updated_whole = is_trainable and level is Level.NOTHING
    return Outcome(
        is_trainable=is_trainable,
        num_holders=lattice.size,
        num_slices=mesh.size // lattice.size,
        num_nodes=lattice.num_nodes,
        cut=tuple(kind for kind in Kind if level.cuts(kind) and possible[kind]),
        has_node_weight=lattice.num_local > 1 and not is_updated_whole,
    )


def outcome_of(plan: Plan, spec: ParamSpec) -> Outcome:
    """Return what the flags of a parameter come to in a plan."""
    placement = place(spec, mesh=plan.mesh, policy=plan.policy)
    return outcome(placement, mesh=plan.mesh, policy=plan.policy)


def wanted_level(policy: Policy, spec: ParamSpec) -> Level:
    """Return the level that the policy asks for, whatever comes of it."""
    override = policy.override_of(spec.names)
    return policy.level if override is None else override


def why_whole(plan: Plan, spec: ParamSpec) -> str:
    """Return why nothing of a parameter is cut, though several ranks share it."""
    policy, found = plan.policy, outcome_of(plan, spec)
    level = wanted_level(policy, spec)
    if level is Level.NOTHING:
        return "level 0 cuts nothing"
    if not found.is_trainable and not level.cuts(Kind.WEIGHT):
        return f"it is frozen, and level {int(level)} cuts no weights"
    placement = place(spec, mesh=plan.mesh, policy=policy)
    if placement.kept_whole is Whole.BY_THRESHOLD:
        threshold = format_bytes(policy.shard_threshold_bytes)
        return f"below policy.shard_threshold_bytes = {threshold}"
    if placement.kept_whole is Whole.BY_FLAG:
        return "parallel_optimizer=False"
    if is_capped(plan, spec):
        return "it is tied and frozen, and tied weights are not cut over nodes"
    return "it is frozen, and its node has one copy anyway"


def is_capped(plan: Plan, spec: ParamSpec) -> bool:
    """Tell whether the weight of a tied parameter would be cut, were it not tied."""
    placement = place(spec, mesh=plan.mesh, policy=plan.policy)
    return placement.is_tied and placement.level < wanted_level(plan.policy, spec)


def has_effect(plan: Plan, spec: ParamSpec, flag: str) -> bool:
    """Tell whether the plan treats a parameter differently because of one flag."""
    try:
        return outcome_of(plan, flip(spec, flag)) != outcome_of(plan, spec)
    except PlanError:
        return True  # the other way round there would be no plan at all


def why_no_effect(plan: Plan, spec: ParamSpec, flag: str) -> str:
    """Return why a flag without effect has none."""
    if plan.mesh.size == 1:
        return "the world has one rank"
    if flag == "layerwise_parallel":
        return f"the mesh has one rank along axis {plan.mesh.layerwise_axis!r}"
    if outcome_of(plan, spec).num_slices > 1:
        return "layerwise_parallel decides"
    return why_whole(plan, spec)


def list_idle_flags(plan: Plan) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the flags that a user set in vain: flag and value, why, parameters."""
    idle: dict[tuple[str, str], list[str]] = {}
    for spec in plan.params:
        for flag in FLAGS:
            value = getattr(spec, flag)
            if value != _DEFAULTS[flag] and not has_effect(plan, spec, flag):
                key = (f"{flag}={value}", why_no_effect(plan, spec, flag))
                idle.setdefault(key, []).append(spec.name)
    for (flag, why), names in idle.items():
        yield flag, why, names
