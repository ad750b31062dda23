"""What ranks agree on before the first gradient travels.

First that they planned the same and will move weights alike: digests are compared, and
only if they differ do plans and settings travel, to say where. Then that every copy of
a weight starts from the same values: hashes are compared, and only what differs is
broadcast from the group's first rank.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from parallel_params.comm.agree import (
    agree_ok,
    agree_same,
    first_difference,
    odd_ranks,
)
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanMismatch
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.codec import encode
from parallel_params.plan.plan import Plan
from parallel_params.runtime.groups import Groups
from parallel_params.runtime.hashes import HASH_BYTES, weight_hash
from parallel_params.tensor.kernel_set import kernel_set


def agree_on_plan(comm: Communicator, plan: Plan) -> None:
    """Make sure that every rank computed this very plan.

    Raises:
        PlanMismatch: on all ranks, naming the first parameter or choice that differs,
            the ranks that differ from the majority, and both values.

    Collective: all ranks.
    """
    odd = odd_ranks(comm.all_gather_bytes(plan.digest.encode()))
    if not odd:
        return
    plans = [json.loads(text) for text in comm.all_gather_bytes(_facts(plan))]
    usual = next(rank for rank in range(comm.size) if rank not in odd)
    difference, remedy = _difference(plans[odd[0]], plans[usual])
    who = f"rank {odd[0]}" if len(odd) == 1 else f"ranks {', '.join(map(str, odd))}"
    differ = "differs" if len(odd) == 1 else "differ"
    raise PlanMismatch(f"{who} {differ} from rank {usual}: {difference}. {remedy}")


def agree_on_kernels(comm: Communicator) -> None:
    """Make sure that every rank computes with the same loops: other ones, other bits.

    Raises:
        PlanMismatch: on all ranks, naming those that differ and both sets.

    Collective: all ranks.
    """
    if comm.size > 1:
        agree_same(comm, str(kernel_set()), "the set of kernels (set_kernels)")


def agree_on_optimizers(
    comm: Communicator, optimizers: Sequence[Optimizer], plan: Plan
) -> None:
    """Make sure that every rank will move the weights by the same rule and settings.

    Where owners update, ranks with different settings would train a patchwork of both
    without a sign. Learning rates are compared at every step, see `Status`.

    Raises:
        PlanMismatch: on all ranks, naming the first setting that differs, the ranks
            that differ from the majority, and both values.

    Collective: every rank of `comm`, with the same plan.
    """
    if comm.size == 1:
        return
    facts = [
        fact for optimizer in optimizers for fact in _optimizer_facts(optimizer, plan)
    ]
    digest = hashlib.blake2b("\n".join(facts).encode(), digest_size=HASH_BYTES)
    if not odd_ranks(comm.all_gather_bytes(digest.digest())):
        return
    raise PlanMismatch(
        f"the optimizer is not the same on all ranks: {first_difference(comm, facts)}. "
        "Build it with the same arguments on every rank."
    )


def _optimizer_facts(optimizer: Optimizer, plan: Plan) -> list[str]:
    rule = optimizer.rule
    # An own rule may have no text but its address, which differs everywhere.
    has_text = type(rule).__repr__ is not object.__repr__
    facts = [
        repr(rule) if has_text else type(rule).__qualname__,
        f"loss_scale {optimizer.loss_scale}",
        f"{optimizer.num_steps} steps taken",
    ]
    for index, parameter in enumerate(optimizer.parameters):
        settings = optimizer.settings(index)
        facts.append(
            f"parameter {parameter.name!r}: weight_decay {settings.weight_decay}, "
            f"group {settings.group}, is_adapted {settings.is_adapted}"
        )
    for index, parameter in enumerate(optimizer.parameters):
        state = optimizer.state_of(index) if optimizer.allocated_state else {}
        for slot, member in state.items():
            if plan.group_size(plan.bucket_of(parameter.name)) == plan.mesh.size:
                digest = weight_hash(member).hex()
                facts.append(f"{slot} of {parameter.name!r}: values with hash {digest}")
    return facts


def _facts(plan: Plan) -> bytes:
    encoded = encode(plan)
    return json.dumps(
        {key: encoded[key] for key in ("mesh", "policy", "params")}
    ).encode()


def _difference(
    odd: Mapping[str, object], usual: Mapping[str, object]
) -> tuple[str, str]:
    """Say what differs first, and what to do about it."""
    for choice in ("mesh", "policy"):
        if odd[choice] != usual[choice]:
            fields = _fields(odd[choice], usual[choice])
            return f"another {choice}: {fields}", f"Pass one {choice} on every rank."
    remedy = "Build the same model with the same flags and optimizer on every rank."
    theirs, ours = _params(odd), _params(usual)
    for position, (their, our) in enumerate(zip(theirs, ours, strict=False)):
        if their["name"] != our["name"]:
            names = f"is {their['name']!r}, not {our['name']!r}"
            return f"parameter {position} {names}", remedy
        if their != our:
            return f"parameter {our['name']!r}: {_fields(their, our)}", remedy
    if len(theirs) != len(ours):
        longer = max(theirs, ours, key=len)
        name = longer[min(len(theirs), len(ours))]["name"]
        counts = f"{len(theirs)} parameters, not {len(ours)}"
        return f"{counts}; the first that not all have is {name!r}", remedy
    return (
        "another plan for the same parameters",
        "Run the same version of this package on every rank.",
    )


def _params(plan: Mapping[str, object]) -> list[dict[str, object]]:
    params = plan["params"]
    assert isinstance(params, list)
    return params


def _fields(odd: object, usual: object) -> str:
    if not isinstance(odd, dict) or not isinstance(usual, dict):
        return f"{odd}, not {usual}"
    return ", ".join(
        f"{key} is {odd.get(key)}, not {usual[key]}"
        for key in usual
        if odd.get(key) != usual[key]
    )


def equalise_start(
    plan: Plan, comm: Communicator, groups: Groups, parameters: Mapping[str, Parameter]
) -> tuple[str, ...]:
    """Give every copy of a weight the values of the first rank of its group.

    Args:
        plan: says which ranks hold copies of what.
        comm: all ranks of the plan.
        groups: the communicators.
        parameters: by name; written where values differ.

    Returns:
        The names whose values differed in this rank's groups and were broadcast.

    Raises:
        RankFailed: a rank could not make the values of a lazy parameter.

    Collective: every rank of the plan.
    """
    error: Exception | None = None
    hashes: dict[str, bytes] = {}
    try:
        hashes = {name: weight_hash(p) for name, p in parameters.items()}
    except Exception as raised:
        error = raised
    agree_ok(comm, error)
    by_group: dict[tuple[int, ...], list[str]] = {}
    for bucket in plan.buckets:
        ranks = tuple(plan.group(bucket, comm.rank))
        by_group.setdefault(ranks, []).extend(e.name for e in bucket.extents)
    different: list[str] = []
    for ranks, names in by_group.items():
        group = groups.of(ranks)
        if group is None:
            continue
        everybodys = group.all_gather_bytes(b"".join(hashes[name] for name in names))
        for i, name in enumerate(names):
            part = slice(i * HASH_BYTES, (i + 1) * HASH_BYTES)
            if len({each[part] for each in everybodys}) > 1:
                group.broadcast(parameters[name].asnumpy(), root=0)
                different.append(name)
    return tuple(different)
