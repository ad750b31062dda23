"""One parameter for a person: what its flags did, where it lies, what a flip would do.

The cost of a flip is that of the plan with the flag flipped, computed whole.
"""

from collections.abc import Iterator
from dataclasses import replace

from parallel_params.errors import PlanError
from parallel_params.plan.announce import announce_step
from parallel_params.plan.bucket import Bucket
from parallel_params.plan.cost import Estimate, estimate
from parallel_params.plan.effects import (
    FLAGS,
    Outcome,
    flip,
    has_effect,
    is_capped,
    outcome_of,
    wanted_level,
    why_no_effect,
)
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Kind
from parallel_params.plan.spec import ParamSpec
from parallel_params.plan.text import (
    format_bytes,
    format_table,
    name_all,
    name_some,
    plural,
)


def explain(plan: Plan, name: str) -> str:
    """Return the page of the parameter called `name`."""
    spec, bucket = plan.spec(name), plan.bucket_of(name)
    is_slice = spec.slice_dim is not None and outcome_of(plan, spec).num_slices > 1
    part = f", a slice along dim {spec.slice_dim}" if is_slice else ""
    also = f", also called {name_some(spec.aliases)}" if spec.aliases else ""
    lines = [
        f"{spec.name}: {spec.dtype} {spec.shape}{part}, "
        f"{plural(spec.numel, 'element')}, {format_bytes(spec.weight_bytes)}, "
        f"bucket {bucket.index} of {len(plan.buckets)}{also}",
        "",
        *format_table(list(_say_flags(plan, spec)), align="<<"),
        "",
        *format_table(
            [[kind.value, _say_place(plan, spec, kind)] for kind in Kind], align="<<"
        ),
        "",
        *format_table(list(_say_flips(plan, spec)), align="<<"),
    ]
    return "\n".join(lines) + "\n"


def _say_flags(plan: Plan, spec: ParamSpec) -> Iterator[list[str]]:
    found = outcome_of(plan, spec)
    sentences = {
        "requires_grad": _say_training(plan, spec, found),
        "layerwise_parallel": _say_values(plan, found),
        "parallel_optimizer": _say_cut(plan, spec, found),
    }
    for flag, sentence in sentences.items():
        if not has_effect(plan, spec, flag):
            sentence = f"no effect: {why_no_effect(plan, spec, flag)}"
        yield [f"{flag}={getattr(spec, flag)}", sentence]
    yield [f"comm_fusion={spec.comm_fusion}", _say_company(plan, spec)]


def _say_training(plan: Plan, spec: ParamSpec, found: Outcome) -> str:
    if spec.is_statistic and not spec.requires_grad:
        return "follows what the grains observe: no gradient, no optimizer state"
    if not found.is_trainable:
        return "frozen: no gradient, no optimizer state"
    names = plan.bucket_of(spec.name).slots
    slots = f"optimizer state {name_some(names)}"
    if not names:
        slots = "its rule keeps no state"
    if found.num_holders == 1:
        return f"trained: its gradient stays on its rank; {slots}"
    axes = " x ".join(plan.bucket_of(spec.name).axes)
    return (
        f"trained: its gradient is reduced over {plural(found.num_holders, 'rank')} "
        f"({axes}); {slots}"
    )


def _say_values(plan: Plan, found: Outcome) -> str:
    if found.num_slices == 1:
        return f"the same values on all {plural(plan.mesh.size, 'rank')}"
    return (
        f"other values on each of the {found.num_slices} ranks along axis "
        f"{plan.mesh.layerwise_axis!r}, never sent along it"
    )


def _say_cut(plan: Plan, spec: ParamSpec, found: Outcome) -> str:
    said = f"kept whole on {plural(found.num_holders, 'rank')}"
    if found.cut:
        kinds = name_all([kind.value for kind in found.cut])
        said = f"{kinds} cut over {plural(found.num_holders, 'rank')}"
    if plan.policy.override_of(spec.names) is not None:
        said += f", level {int(wanted_level(plan.policy, spec))} by policy.override"
    if is_capped(plan, spec):
        said += "; the weight is not cut over nodes: tied, it is used at several places"
    return said


def _say_company(plan: Plan, spec: ParamSpec) -> str:
    bucket = plan.bucket_of(spec.name)
    sent = {
        message.bucket for _, messages in announce_step(plan, 0) for message in messages
    }
    if bucket.index not in sent:
        is_shared = plan.is_windowed(bucket, Kind.GRADIENT)
        how = (
            "it goes through the node's memory"
            if is_shared
            else "nothing of it is sent"
        )
        return f"no effect: {how}"
    others = [extent.name for extent in bucket.extents if extent.name != spec.name]
    if others:
        return f"travels with {name_some(others)}"
    return "travels alone" + (", as it asks" if spec.comm_fusion == 0 else "")


def _say_place(plan: Plan, spec: ParamSpec, kind: Kind) -> str:
    bucket, found = plan.bucket_of(spec.name), outcome_of(plan, spec)
    if not bucket.num_copies(kind):
        return "none"
    if kind is Kind.WEIGHT and found.has_node_weight:
        return _say_node_weight(found)
    if kind not in found.cut and found.num_holders < found.num_slices:
        return "whole, on each rank its own"
    if kind not in found.cut:
        return f"whole on {plural(found.num_holders, 'rank')}"
    if not spec.numel:
        return "cut, but it has no elements"
    return f"cut: {', '.join(_name_parts(plan, bucket, spec))}"


def _say_node_weight(found: Outcome) -> str:
    num_local = found.num_holders // found.num_nodes
    who = f"shared by {plural(num_local, 'rank')}"
    if Kind.WEIGHT in found.cut:
        return f"a part on each of {plural(found.num_nodes, 'node')}, {who}"
    if found.num_nodes == 1:
        return f"one copy, {who}"
    return f"one copy on each of {plural(found.num_nodes, 'node')}, {who}"


def _name_parts(
    plan: Plan, bucket: Bucket, spec: ParamSpec, *, most: int = 4
) -> Iterator[str]:
    """Yield the first parts with their ranks, in the group of rank 0."""
    extent = plan.extent_of(spec.name).interval
    first, last = (
        bucket.owner_of(
            element, plan.group_size(bucket), alignment=plan.policy.alignment
        )
        for element in (extent.start, extent.stop - 1)
    )
    for position in range(first, min(last + 1, first + most)):
        rank = plan.mesh.member(bucket.axes, position=position, slice_index=0)
        part = plan.owned_at(bucket, position).intersect(extent).shift(-extent.start)
        yield f"{part} on rank {rank}"
    if last >= first + most:
        rank = plan.mesh.member(bucket.axes, position=last, slice_index=0)
        yield f"and so on to rank {rank}"


def _say_flips(plan: Plan, spec: ParamSpec) -> Iterator[list[str]]:
    now = estimate(plan)
    policy = replace(plan.policy, memory_limit_bytes=None)
    yield ["flipping", "would"]
    for flag in FLAGS:
        flipped = flip(spec, flag)
        params = [flipped if each is spec else each for each in plan.params]
        try:
            then = estimate(make_plan(params, plan.mesh, policy))
        except PlanError as error:
            change = f"be refused: {error}"
        else:
            change = _say_change(now, then)
        if flag == "layerwise_parallel" and spec.slice_dim is not None:
            change = "average slices of one tensor: leave it to the cell that cuts it"
        yield [f"{flag}={getattr(flipped, flag)}", change]


def _say_change(now: Estimate, then: Estimate) -> str:
    changes = []
    for before, after, where in (
        (now.heaviest.bytes_held.total, then.heaviest.bytes_held.total, "per rank"),
        (now.most_sent, then.most_sent, "sent per step"),
    ):
        if before != after:
            verb = "save" if after < before else "cost"
            changes.append(f"{verb} {format_bytes(abs(after - before))} {where}")
    return " and ".join(changes) or "change no byte"
