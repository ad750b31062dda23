"""What ranks agree on before the first gradient travels.

First that they planned the same: digests are compared, and only if they differ do the
plans travel, to say where. Then that every copy of a weight starts from the same
values: hashes are compared, and only what differs is broadcast from the group's first
rank.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from parallel_params.comm.agree import odd_ranks
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanMismatch
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.codec import encode
from parallel_params.plan.plan import Plan

HASH_BYTES = 16


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
    raise PlanMismatch(f"{who} differ from rank {usual}: {difference}. {remedy}")


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


def weight_hash(parameter: Parameter) -> bytes:
    """Return a hash of the parameter's bytes, 16 bytes long."""
    data = parameter.asnumpy().tobytes()
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def equalise_start(
    comm: Communicator, names: Sequence[str], parameters: Mapping[str, Parameter]
) -> tuple[str, ...]:
    """Give every rank of `comm` the first rank's values where values differ.

    Args:
        comm: ranks that hold copies of the same weights.
        names: the parameters concerned, in the same order on every rank.
        parameters: by name.

    Returns:
        The names whose values differed and were broadcast.

    Collective: every rank of `comm`.
    """
    if comm.size == 1 or not names:
        return ()
    own = b"".join(weight_hash(parameters[name]) for name in names)
    hashes = comm.all_gather_bytes(own)
    different = []
    for i, name in enumerate(names):
        part = slice(i * HASH_BYTES, (i + 1) * HASH_BYTES)
        if len({h[part] for h in hashes}) > 1:
            comm.broadcast(parameters[name].asnumpy(), root=0)
            different.append(name)
    return tuple(different)
