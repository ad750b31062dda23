"""A page about a plan for a person: who holds what, what moves, what is special.

Reads a finished plan and its estimate; decides nothing.
"""

from dataclasses import replace

from parallel_params.plan.along import AxisTraffic
from parallel_params.plan.bucket_table import list_buckets, list_buckets_briefly
from parallel_params.plan.cost import Estimate, Machine, RankClass, estimate
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Kind, Level
from parallel_params.plan.remarks import (
    list_idle_choices,
    list_promises,
    list_special_parameters,
    promise_bits,
)
from parallel_params.plan.text import (
    format_bytes,
    format_count,
    format_seconds,
    format_table,
    plural,
)

LEVELS = {
    Level.NOTHING: "nothing is cut",
    Level.STATE: "optimizer state is cut",
    Level.GRADIENT: "optimizer state and gradients are cut",
    Level.WEIGHT: "optimizer state, gradients and weights are cut",
}


def describe(plan: Plan, *, most_rows: int, along: AxisTraffic | None = None) -> str:
    """Return the page.

    Args:
        plan: What to describe.
        most_rows: Rows of the table of buckets; the rest is summed up.
        along: What cells send along an axis on top, if anything.
    """
    costs = estimate(plan)
    sections = [
        _head(plan),
        _held(plan, costs),
        _sent(plan, costs, along),
        _levels(plan, costs),
        list_buckets(plan, most_rows),
        [
            *list_special_parameters(plan),
            *list_idle_choices(plan),
            *list_promises(plan, costs),
        ],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def summarise(plan: Plan, *, most_rows: int) -> str:
    """Return the page in short: no estimate of time, no other levels, no costs."""
    costs = estimate(plan)
    sent = costs.slowest
    traffic = "a step sends nothing: there is one rank"
    if sent.traffic:
        messages = plural(sent.num_collectives, "collective")
        traffic = f"a rank sends {format_bytes(sent.bytes_sent)} in {messages} a step"
        if _has_cut_cells(plan):
            traffic += f", cells more along axis {plan.mesh.layerwise_axis!r}"
    sections = [
        [*_head(plan), f"  {traffic}"],
        _held_table(plan, costs),
        list_buckets_briefly(plan, most_rows),
        [*list_special_parameters(plan), *list_idle_choices(plan), *promise_bits(plan)],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _head(plan: Plan) -> list[str]:
    mesh, level = plan.mesh, plan.policy.level
    numel = sum(spec.numel for spec in plan.params)
    return [
        f"plan {plan.digest[:12]}, level {int(level)}: {LEVELS[level]}",
        f"  {plural(mesh.size, 'rank')} on {plural(mesh.num_nodes, 'node')}, {mesh!r}",
        f"  {plural(len(plan.params), 'parameter')} of {format_count(numel)} elements "
        f"in {plural(len(plan.buckets), 'bucket')}",
        f"  {plural(plan.grains, 'grain')}, {plan.grains_per_rank} per rank, "
        f"{plan.policy.reduction} reduction",
        f"  {_say_transport(plan)}",
    ]


def _say_transport(plan: Plan) -> str:
    mesh, policy = plan.mesh, plan.policy
    per_node = min(mesh.ranks_per_node, mesh.size)
    if mesh.size == 1:
        return "memory: all its own, there is one rank"
    if policy.transport == "messages":
        return "messages only, as policy.transport asks: every rank has its own copies"
    if per_node == 1:
        return "messages only: every rank has a node for itself"
    if any(plan.lattice(bucket).num_local > 1 for bucket in plan.buckets):
        if mesh.num_nodes == 1:
            return f"shared memory among the {per_node} ranks of the node"
        return f"shared memory among the {per_node} ranks of a node, messages between"
    return f"messages only: nodes of {per_node} ranks do not part every group alike"


def _held(plan: Plan, costs: Estimate) -> list[str]:
    return [
        *_held_table(plan, costs),
        f"  ({_name_ranks(plan, costs.heaviest, 'holds more')}; the fullest node holds "
        f"{format_bytes(costs.node_bytes)})",
    ]


def _held_table(plan: Plan, costs: Estimate) -> list[str]:
    held = costs.heaviest.bytes_held
    rows = [["a rank holds", "bytes", "of in total", "share"]]
    for kind in Kind:
        part, total = held.of(kind), _total_bytes(plan, kind)
        share = f"{100 * part / total:.3g}%" if total else "-"
        rows.append([kind.value, format_bytes(part), format_bytes(total), share])
    rows.append(["work buffers", format_bytes(held.work), "", ""])
    rows.append(["together", format_bytes(held.total), "", ""])
    return format_table(rows, align="<>>>")


def _total_bytes(plan: Plan, kind: Kind) -> int:
    """Return the bytes of one copy of all different values in the world."""
    return sum(
        bucket.bytes_of(kind) * (plan.mesh.size // plan.group_size(bucket))
        for bucket in plan.buckets
    )


def _name_ranks(plan: Plan, ranks: RankClass, what: str) -> str:
    """Name a class of ranks, and what sets it apart if there are others."""
    block = ranks.blocks[0]
    if ranks.num_ranks == plan.mesh.size:
        return "every rank" if plan.mesh.size > 1 else "the only rank"
    if ranks.num_ranks == 1:
        named = f"rank {block.first}"
    elif len(ranks.blocks) == 1 and block.is_run:
        named = f"ranks {block.first} to {block.last}"
    else:
        named = f"{plural(ranks.num_ranks, 'rank')}, the first is {block.first}"
    return f"{named}: no other {what}"


def _sent(plan: Plan, costs: Estimate, along: AxisTraffic | None) -> list[str]:
    ranks = costs.slowest
    if not ranks.traffic:
        return ["  a step sends nothing: there is one rank"]
    beside = []
    if along is not None:
        number, sent = along.num_collectives, format_bytes(along.total_bytes_sent)
        beside = [[f"and cells, along {along.axis!r}", format_count(number), sent, ""]]
    lines = [
        (line.purpose.value, line.num_collectives, line.bytes_sent, line.seconds)
        for line in ranks.traffic
    ]
    lines.append(("together", ranks.num_collectives, ranks.bytes_sent, ranks.seconds))
    rows = [["a step sends", "collectives", "bytes", "time"]]
    rows += [
        [what, format_count(number), format_bytes(sent), format_seconds(seconds)]
        for what, number, sent, seconds in lines
    ]
    rows += beside
    more = []
    if along is None and _has_cut_cells(plan):
        own = plan.mesh.layerwise_axis
        more = [
            f"  (cells that are cut along axis {own!r} send more in "
            "the middle of a pass; a plan knows of none)"
        ]
    return [
        *format_table(rows, align="<>>>"),
        *more,
        f"  ({_name_ranks(plan, ranks, 'takes longer')}; {_say_machine(Machine())})",
    ]


def _has_cut_cells(plan: Plan) -> bool:
    return any(
        spec.layerwise_parallel and spec.slice_dim is not None for spec in plan.params
    )


def _say_machine(machine: Machine) -> str:
    """Say what the estimated times rest on."""
    return (
        f"estimated for {format_seconds(machine.node_latency_s)} a message and "
        f"{machine.node_bytes_per_s / 1e9:g} GB/s inside a node, "
        f"{format_seconds(machine.network_latency_s)} and "
        f"{machine.network_bytes_per_s / 1e9:g} GB/s a node between them"
    )


def _levels(plan: Plan, own: Estimate) -> list[str]:
    if plan.mesh.size == 1:
        return []
    rows = [["level", "a rank holds", "a step sends", ""]]
    for level in Level:
        costs = own
        if level is not plan.policy.level:
            other = replace(plan.policy, level=level, memory_limit_bytes=None)
            costs = estimate(make_plan(plan.params, plan.mesh, other))
        rows.append(
            [
                str(int(level)),
                format_bytes(costs.heaviest.bytes_held.total),
                format_bytes(costs.most_sent),
                "this plan" if level is plan.policy.level else "",
            ]
        )
    return format_table(rows, align=">>><")
