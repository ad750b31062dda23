"""A page about a plan for a person: who holds what, what moves, what is special.

Reads a finished plan and its estimate; decides nothing.
"""

from collections.abc import Iterator
from dataclasses import replace

from parallel_params.plan.bucket_table import list_buckets, list_buckets_briefly
from parallel_params.plan.cost import Estimate, Machine, RankClass, estimate
from parallel_params.plan.effects import list_idle_flags, outcome_of, why_whole
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Kind, Level
from parallel_params.plan.text import (
    format_bytes,
    format_count,
    format_seconds,
    format_table,
    name_some,
    plural,
)

LEVELS = {
    Level.NOTHING: "nothing is cut",
    Level.STATE: "optimizer state is cut",
    Level.GRADIENT: "optimizer state and gradients are cut",
    Level.WEIGHT: "optimizer state, gradients and weights are cut",
}


def describe(plan: Plan, *, most_rows: int) -> str:
    """Return the page.

    Args:
        plan: What to describe.
        most_rows: Rows of the table of buckets; the rest is summed up.
    """
    costs = estimate(plan)
    sections = [
        _head(plan),
        _held(plan, costs),
        _sent(plan, costs),
        _levels(plan),
        list_buckets(plan, most_rows),
        [*_special_parameters(plan), *_idle_choices(plan), *_promises(plan, costs)],
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
    sections = [
        [*_head(plan), f"  {traffic}"],
        _held_table(plan, costs),
        list_buckets_briefly(plan, most_rows),
        [*_special_parameters(plan), *_idle_choices(plan), _promised_bits(plan)],
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
    ]


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
        bucket.numel
        * bucket.item_bytes_of(kind)
        * bucket.num_copies(kind)
        * (plan.mesh.size // plan.group_size(bucket))
        for bucket in plan.buckets
    )


def _name_ranks(plan: Plan, ranks: RankClass, what: str) -> str:
    """Name a class of ranks, and what sets it apart if there are others."""
    first, last = ranks.ranks[0], ranks.ranks[-1]
    if len(ranks.ranks) == plan.mesh.size:
        return "every rank" if plan.mesh.size > 1 else "the only rank"
    named = f"rank {first}" if first == last else f"ranks {first} to {last}"
    return f"{named}: no other {what}"


def _sent(plan: Plan, costs: Estimate) -> list[str]:
    ranks = costs.slowest
    if not ranks.traffic:
        return ["  a step sends nothing: there is one rank"]
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
    return [
        *format_table(rows, align="<>>>"),
        f"  ({_name_ranks(plan, ranks, 'takes longer')}; {_say_machine(Machine())})",
    ]


def _say_machine(machine: Machine) -> str:
    """Say what the estimated times rest on."""
    return (
        f"estimated for {format_seconds(machine.node_latency_s)} a message and "
        f"{machine.node_bytes_per_s / 1e9:g} GB/s inside a node, "
        f"{format_seconds(machine.network_latency_s)} and "
        f"{machine.network_bytes_per_s / 1e9:g} GB/s a node between them"
    )


def _levels(plan: Plan) -> list[str]:
    if plan.mesh.size == 1:
        return []
    rows = [["level", "a rank holds", "a step sends", ""]]
    for level in Level:
        other = replace(plan.policy, level=level)
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


def _special_parameters(plan: Plan) -> Iterator[str]:
    """Say which parameters are not treated like most, and why."""
    whole: dict[str, list[str]] = {}
    private, frozen, tied = [], [], []
    for spec in plan.params:
        found = outcome_of(plan, spec)
        if found.num_slices > 1:
            private.append(spec.name)
        if not found.is_trainable:
            frozen.append(spec.name)
        is_cuttable = plan.policy.level.cuts(
            Kind.STATE if found.is_trainable else Kind.WEIGHT
        )
        if is_cuttable and not found.cut and found.num_holders > 1:
            whole.setdefault(why_whole(plan, spec), []).append(spec.name)
        tied += [f"{alias} = {spec.name}" for alias in spec.aliases]
    for why, names in whole.items():
        yield f"kept whole ({why}): {name_some(names)}"
    if private:
        yield (
            "private (other values on each rank along axis "
            f"{plan.mesh.layerwise_axis!r}, never sent along it; parallel_optimizer "
            f"has no effect): {name_some(private)}"
        )
    if frozen:
        yield f"frozen (no gradient, no optimizer state): {name_some(frozen)}"
    if tied:
        yield f"tied (one storage, one gradient): {name_some(tied)}"


def _idle_choices(plan: Plan) -> Iterator[str]:
    """Say what a user chose in vain."""
    for flag, why, names in list_idle_flags(plan):
        yield f"no effect: {flag} of {name_some(names)} ({why})"
    policy = plan.policy
    if policy.grains not in (None, plan.grains):
        yield (
            f"no effect: policy.grains = {policy.grains} (fast reduction takes the "
            "share of a rank as one grain)"
        )
    if policy.level > Level.NOTHING and not any(
        outcome_of(plan, spec).cut for spec in plan.params
    ):
        why = "one rank" if plan.mesh.size == 1 else "no parameter is cut"
        yield f"no effect: level {int(policy.level)} ({why})"


def _promises(plan: Plan, costs: Estimate) -> Iterator[str]:
    """Say how a run starts, what canonical reduction costs and which bits repeat."""
    yield (
        "start: the ranks compare the digest of this plan and hashes of shared "
        "weights; only weights that differ are sent"
    )
    held = costs.heaviest.bytes_held
    if plan.policy.reduction == "canonical":
        yield (
            f"canonical reduction costs {format_bytes(held.partials)} for partial sums "
            f"of {plural(plan.grains_per_rank, 'grain')} and "
            f"{format_bytes(held.receive)} to receive the pieces of a bucket"
        )
    yield _promised_bits(plan)


def _promised_bits(plan: Plan) -> str:
    """Say at which world sizes the weights end with the same bits."""
    if not plan.is_same_bits_everywhere:
        why = "fast reduction"
        if plan.policy.reduction == "canonical":
            why = f"grains = {plan.grains} is no power of two"
        return f"bits: repeatable for its own world size only ({why})"
    condition = "" if plan.policy.grains else f", with policy.grains = {plan.grains}"
    has_private = any(plan.group_size(b) < plan.mesh.size for b in plan.buckets)
    return (
        "bits: the same at every level and on any power of two up to "
        f"{plural(plan.grains, 'rank')}{condition}"
        f"{', private parameters aside' if has_private else ''}"
    )
