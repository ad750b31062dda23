"""Whether the machines of all ranks have the memory that a plan asks for.

Asked before anything is allocated. Every rank tells what it finds free, and all decide
alike from what all told; the plan itself knows nothing of machines.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from parallel_params.comm.free_memory import read_free_memory
from parallel_params.comm.protocol import Communicator
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.fit import Pool, check_pools
from parallel_params.plan.plan import Plan


def check_room(
    plan: Plan, comm: Communicator, *, given_back: int = 0, can_share: bool = True
) -> None:
    """Refuse a plan that needs more memory than machines and cgroups have free.

    Nobody is asked where `policy.memory_limit_bytes` says something.

    Args:
        plan: the same on all ranks.
        comm: all ranks of the plan.
        given_back: bytes that this rank holds now and will not under the plan.
        can_share: whether shared memory may be offered as a way out.

    Raises:
        PlanError: on all ranks, see `check_pools`.

    Collective: all ranks.
    """
    if plan.policy.memory_limit_bytes is not None:
        return
    found = [(each.key, each.name, each.free_bytes) for each in read_free_memory()]
    payload = json.dumps([given_back, found]).encode()
    told = [json.loads(text) for text in comm.all_gather_bytes(payload)]
    check_pools(plan, _pools(told), can_share=can_share)


def bytes_given_back(
    parameters: Mapping[str, Parameter], optimizers: Iterable[Optimizer]
) -> int:
    """Return the bytes of values that move into arenas, and are let go of then."""
    state = [
        member
        for optimizer in optimizers
        for members in optimizer.allocated_state.values()
        for member in members
    ]
    held = [*parameters.values(), *state]
    return sum(each.nbytes for each in held if not each.has_init)


def _pools(told: Sequence[tuple[int, Sequence[tuple[str, str, int]]]]) -> list[Pool]:
    """Put together what the ranks told, in the order of the ranks."""
    ranks: dict[str, list[int]] = {}
    names: dict[str, str] = {}
    free: dict[str, int] = {}
    for rank, (_, found) in enumerate(told):
        for key, name, free_bytes in found:
            ranks.setdefault(key, []).append(rank)
            names.setdefault(key, name)
            # Others may take some between two readings.
            free[key] = min(free.get(key, free_bytes), free_bytes)
    return [
        Pool(
            name=names[key],
            ranks=tuple(members),
            free_bytes=free[key] + sum(told[rank][0] for rank in members),
        )
        for key, members in ranks.items()
    ]
