"""Whether a plan fits in a rank's memory, and which policy would.

Counts what the plan counts: activations, Python and MPI's own buffers come on top.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import product

from parallel_params.errors import PlanError
from parallel_params.plan.cost import RankClass, estimate
from parallel_params.plan.memory import RankBytes
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy, Transport
from parallel_params.plan.text import format_bytes, name_all

_SMALLEST_BUCKET_BYTES = 64 << 10

_NAMES = {
    "weight": "weights",
    "gradient": "gradients",
    "state": "optimizer state",
    "partials": "partial sums",
    "send": "buffers to send",
    "receive": "buffers to receive",
    "reduced": "reduced gradients",
    "in_flight": "buckets in use",
}


def check_memory(plan: Plan) -> None:
    """Refuse a plan of which some rank holds more than `policy.memory_limit_bytes`.

    Raises:
        PlanError: what that rank would hold, kind by kind, and the first policy that
            would fit: a higher level, one grain per rank, fast reduction, shared
            memory, smaller buckets, in this order; or that none does.
    """
    limit = plan.policy.memory_limit_bytes
    if limit is None:
        return
    heaviest = estimate(plan).heaviest
    if heaviest.bytes_held.total <= limit:
        return
    raise PlanError(
        f"rank {heaviest.blocks[0].first} would hold "
        f"{format_bytes(heaviest.bytes_held.total)}, but policy.memory_limit_bytes = "
        f"{limit} ({format_bytes(limit)}): {_list_kinds(heaviest.bytes_held)}. "
        + _say_what_fits(plan, limit)
    )


def _say_what_fits(plan: Plan, limit: int) -> str:
    least: tuple[int, str] | None = None
    for policy in _alternatives(plan):
        try:
            heaviest = _heaviest(plan, policy)
        except PlanError:
            continue  # fast reduction, say, is not for all dtypes
        total, changes = heaviest.bytes_held.total, _list_changes(plan.policy, policy)
        if total <= limit:
            return (
                f"The first policy that fits has {changes}: {format_bytes(total)} a "
                "rank"
            )
        if least is None or total < least[0]:
            least = total, changes
    closest = (
        f" The least is {format_bytes(least[0])}, with {least[1]}." if least else ""
    )
    return (
        f"No policy fits on these {plan.mesh.size} ranks.{closest} Use more ranks, a "
        "smaller model or a higher limit"
    )


def _heaviest(plan: Plan, policy: Policy) -> RankClass:
    unlimited = replace(policy, memory_limit_bytes=None)
    return estimate(make_plan(plan.params, plan.mesh, unlimited)).heaviest


def _alternatives(plan: Plan) -> Iterator[Policy]:
    """Yield other policies, those that change least of what a user sees first."""
    policy = plan.policy
    sums = [policy]
    if policy.reduction == "canonical":
        if plan.grains_per_rank > 1:
            sums.append(replace(policy, grains=plan.mesh.num_shares))
        sums.append(replace(policy, reduction="fast", wire_dtype=None))
    transports: list[Transport] = [policy.transport]
    if policy.transport == "messages":
        transports.append("auto")
    bucket_bytes = [policy.bucket_bytes]
    while bucket_bytes[-1] // 4 >= _SMALLEST_BUCKET_BYTES:
        bucket_bytes.append(bucket_bytes[-1] // 4)
    levels = [level for level in Level if level >= policy.level]
    for num_bytes, transport, base, level in product(
        bucket_bytes, transports, sums, levels
    ):
        other = replace(base, level=level, transport=transport, bucket_bytes=num_bytes)
        if other != policy:
            yield other


def _list_kinds(held: RankBytes) -> str:
    """Name all that is not 0 bytes, the largest first."""
    sizes = {field.name: getattr(held, field.name) for field in fields(held)}
    parts = sorted(sizes, key=lambda name: -sizes[name])
    return name_all(
        [f"{format_bytes(sizes[name])} {_NAMES[name]}" for name in parts if sizes[name]]
    )


def _list_changes(before: Policy, after: Policy) -> str:
    changed = [
        (field.name, getattr(after, field.name))
        for field in fields(Policy)
        if getattr(before, field.name) != getattr(after, field.name)
    ]
    return name_all(
        [
            f"{name}={int(value) if isinstance(value, int) else value!r}"
            for name, value in changed
        ]
    )
