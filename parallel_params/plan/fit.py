"""Whether a plan fits in the memory there is, and which policy would.

Counts what the plan counts: activations, Python and MPI's own buffers come on top.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

from parallel_params.errors import PlanError
from parallel_params.plan.cost import estimate
from parallel_params.plan.memory import RankBytes
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy, Transport
from parallel_params.plan.text import format_bytes, name_all, plural
from parallel_params.plan.worlds import World, larger_worlds, smaller_worlds

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Memory that some ranks take from together: of a machine, or of a cgroup.

    Attributes:
        name: for people.
        ranks: that take from it, ascending.
        free_bytes: that they can still take together.
    """

    name: str
    ranks: tuple[int, ...]
    free_bytes: int


_Measure = Callable[[Plan], tuple[int, str]]
"""Bytes that a plan takes too much, 0 or less if it fits; what it takes, in words."""


def check_memory(plan: Plan) -> None:
    """Refuse a plan of which some rank holds more than `policy.memory_limit_bytes`.

    Raises:
        PlanError: what that rank would hold, kind by kind, and the first policy that
            would fit: a higher level, one grain per rank, fast reduction, shared
            memory, smaller buckets, in this order; or that none does.
    """
    limit = plan.policy.memory_limit_bytes
    if not isinstance(limit, int):
        return
    heaviest = estimate(plan).heaviest
    if heaviest.bytes_held.total <= limit:
        return

    def measure(other: Plan) -> tuple[int, str]:
        total = estimate(other).heaviest.bytes_held.total
        return total - limit, f"{format_bytes(total)} a rank"

    raise PlanError(
        f"rank {heaviest.blocks[0].first} would hold "
        f"{format_bytes(heaviest.bytes_held.total)}, but policy.memory_limit_bytes = "
        f"{limit} ({format_bytes(limit)}): {_list_kinds([heaviest.bytes_held])}. "
        + _say_what_fits(
            plan,
            measure,
            lambda: _say_ranks(plan, measure, "a smaller model or a higher limit"),
        )
    )


def _say_ranks(plan: Plan, measure: _Measure, others: str, beside: str = "") -> str:
    """Say how many ranks would do, if more of them help, and else what would.

    Args:
        plan: that does not fit.
        measure: whether another one does.
        others: what else may help.
        beside: said of a larger world, where its machines are.
    """
    tried: list[str] = []
    for world in larger_worlds(plan):
        other = world.plan
        excess, taken = measure(other)
        if excess <= 0:
            return f"{_say_world(plan, world, taken, beside)}, {others}"
        tried.append(str(other.mesh.size))
    if not tried:
        return f"Use more ranks, {others}"
    few = name_all(list(dict.fromkeys(tried)))
    return f"Use {others}; {few} ranks at level 3 are too few as well"


def _say_world(plan: Plan, world: World, taken: str, beside: str = "") -> str:
    """Offer a world that fits, by what is otherwise there."""
    other = world.plan
    text = f"Use {plural(other.mesh.size, 'rank')}"
    if len(other.mesh.axes) > 1 or world.is_recut:
        text += f" as {other.mesh!r}"
    if other.policy.level != plan.policy.level:
        text += f" at level {int(other.policy.level)}"
    condition = " if the cells can be cut so" if world.is_recut else ""
    return f"{text}{beside} ({taken}){condition}"


def check_pools(plan: Plan, pools: Sequence[Pool], *, can_share: bool = True) -> None:
    """Refuse a plan whose ranks together hold more than there is for them.

    Args:
        plan: of which every rank holds something.
        pools: what there is.
        can_share: whether shared memory may be offered as a way out.

    Raises:
        PlanError: of the pool that lacks most: who would hold how much, kind by kind,
            what is free, and the first policy that would fit, as in `check_memory`.
    """
    if not pools:
        return
    held = _held_by_rank(plan)
    needed, pool = _tightest(held, pools)
    if needed <= pool.free_bytes:
        return

    def measure(other: Plan) -> tuple[int, str]:
        there = _pools_of(other, plan, pools)
        if not there:
            return 1, ""
        needed, pool = _tightest(_held_by_rank(other), there)
        text = f"{format_bytes(needed)} of {format_bytes(pool.free_bytes)}"
        return needed - pool.free_bytes, text

    def say_worlds() -> str:
        others = "a smaller model or more memory"
        remedy = _say_ranks(plan, measure, others, " on more machines like these")
        for world in smaller_worlds(plan):
            excess, taken = measure(world.plan)
            if excess <= 0:
                return f"{_say_world(plan, world, taken)}. {remedy}"
        return remedy

    kinds = _list_kinds([held[rank] for rank in pool.ranks])
    fitting = _say_what_fits(plan, measure, say_worlds, can_share=can_share)
    raise PlanError(
        f"{_name_ranks(pool.ranks)} would hold {format_bytes(needed)}, but "
        f"{pool.name} has {format_bytes(pool.free_bytes)} of memory free for that: "
        f"{kinds}. {fitting}. To try all the same, set policy.memory_limit_bytes = "
        "'unlimited' (of a job: parallel.memory_limit)"
    )


def _pools_of(other: Plan, plan: Plan, pools: Sequence[Pool]) -> list[Pool]:
    """Return what there is for another world: more of the same machines, or these."""
    size = plan.mesh.size
    times = max(1, other.mesh.size // size)
    found = []
    for turn, each in product(range(times), pools):
        ranks = [turn * size + rank for rank in each.ranks]
        there = tuple(rank for rank in ranks if rank < other.mesh.size)
        if there:
            found.append(replace(each, ranks=there))
    return found


def _held_by_rank(plan: Plan) -> list[RankBytes]:
    classes = estimate(plan).classes
    held = [classes[0].bytes_held] * plan.mesh.size
    for each in classes[1:]:
        for rank in each.ranks:
            held[rank] = each.bytes_held
    return held


def _tightest(held: Sequence[RankBytes], pools: Sequence[Pool]) -> tuple[int, Pool]:
    """Return the pool that lacks most, and what its ranks hold together."""
    needs = [sum(held[rank].total for rank in pool.ranks) for pool in pools]
    return max(
        zip(needs, pools, strict=True), key=lambda pair: pair[0] - pair[1].free_bytes
    )


def _name_ranks(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if ranks[-1] - ranks[0] + 1 == len(ranks):
        return f"ranks {ranks[0]} to {ranks[-1]} together"
    return f"{len(ranks)} ranks together, the first is {ranks[0]},"


def _say_what_fits(
    plan: Plan,
    measure: _Measure,
    remedy: Callable[[], str],
    *,
    can_share: bool = True,
) -> str:
    least: tuple[int, str] | None = None
    for policy in _alternatives(plan, can_share=can_share):
        try:
            other = make_plan(
                plan.params, plan.mesh, replace(policy, memory_limit_bytes=None)
            )
        except PlanError:
            continue  # fast reduction, say, is not for all dtypes
        excess, taken = measure(other)
        changes = _list_changes(plan.policy, policy)
        if excess <= 0:
            return f"The first policy that fits has {changes}: {taken}"
        if least is None or excess < least[0]:
            least = excess, f"{taken}, with {changes}"
    closest = f" The least is {least[1]}." if least else ""
    here = "one rank" if plan.mesh.size == 1 else f"these {plan.mesh.size} ranks"
    return f"No policy fits on {here}.{closest} {remedy()}"


def _alternatives(plan: Plan, *, can_share: bool) -> Iterator[Policy]:
    """Yield other policies, those that change least of what a user sees first."""
    policy = plan.policy
    sums = [policy]
    if policy.reduction == "canonical":
        if plan.grains_per_rank > 1:
            sums.append(replace(policy, grains=plan.mesh.num_shares))
        sums.append(replace(policy, reduction="fast", wire_dtype=None))
    transports: list[Transport] = [policy.transport]
    if policy.transport == "messages" and can_share:
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


def _list_kinds(held: Sequence[RankBytes]) -> str:
    """Name all that is not 0 bytes over these ranks, the largest first."""
    sizes = {
        field.name: sum(getattr(each, field.name) for each in held)
        for field in fields(RankBytes)
    }
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
