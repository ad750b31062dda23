"""From a plan to what executes it on one rank: arenas, groups, exchanges.

Everything is made here, once, in plan order; afterwards nothing is allocated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanError
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.bucket import Bucket
from parallel_params.plan.interval import Interval
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.backward import Backward
from parallel_params.runtime.exchange import BucketExchange
from parallel_params.runtime.reducer import Reducer
from parallel_params.runtime.specs import make_specs
from parallel_params.runtime.stepper import Stepper
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array

HIGHEST_EXECUTED = Level.STATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What executes a plan on one rank.

    Attributes:
        arenas: of all buckets, frozen ones included, in plan order.
        exchanges: of the trainable buckets, in plan order.
        backward: fills the arenas of `exchanges`.
        num_grains: of all ranks.
        groups: communicator per group of ranks; none for groups of one.
        num_ranks: of the world.
    """

    arenas: tuple[Arena, ...]
    exchanges: tuple[BucketExchange, ...]
    backward: Backward
    num_grains: int
    groups: Mapping[tuple[int, ...], Communicator]
    num_ranks: int

    def release(self) -> None:
        """Let go of the parameters, which keep their values."""
        for arena in self.arenas:
            for parameter in arena.parameters:
                parameter.release()

    def close_groups(self) -> None:
        """Free the groups.

        Collective: all ranks.
        """
        for ranks, group in self.groups.items():
            if len(ranks) < self.num_ranks:  # else it is the caller's communicator
                group.close()


def plan_for(
    parameters: dict[str, Parameter],
    optimizer: Optimizer,
    policy: Policy | None,
    mesh: Mesh | None,
    num_ranks: int,
) -> Plan:
    """Plan what this release can execute in a world of `num_ranks`.

    Raises:
        PlanError: parameters, optimizer, policy and mesh contradict each other or the
            world, or the level is not executed yet.
    """
    policy = policy if policy is not None else Policy()
    mesh = mesh if mesh is not None else Mesh(data=num_ranks)
    if mesh.size != num_ranks:
        raise PlanError(f"{mesh} has {mesh.size} ranks, the world has {num_ranks}")
    if policy.level > HIGHEST_EXECUTED:
        raise PlanError(
            f"level {int(policy.level)} can be planned but not executed yet; "
            f"this release executes levels 0 and {int(HIGHEST_EXECUTED)}"
        )
    return make_plan(make_specs(parameters, optimizer), mesh, policy)


def build_runtime(
    plan: Plan,
    comm: Communicator,
    parameters: Mapping[str, Parameter],
    optimizer: Optimizer,
) -> Runtime:
    """Allocate the arenas and make the groups of a plan.

    Args:
        plan: the same on all ranks.
        comm: all ranks of the plan.
        parameters: by name; their storage moves into the arenas.
        optimizer: its rule and settings, and the state it may have; not changed.

    Raises:
        RankFailed: a rank had no memory, or no values for a lazy parameter. All ranks
            have let go of their parameters then.

    Collective: all ranks.
    """
    groups = _make_groups(plan, comm)
    error: Exception | None = None
    try:
        runtime = _assemble(plan, comm, parameters, optimizer, groups)
    except Exception as raised:
        error = raised
    try:
        agree_ok(comm, error)
    except Exception:
        for parameter in parameters.values():
            parameter.release()
        raise
    return runtime


def _assemble(
    plan: Plan,
    comm: Communicator,
    parameters: Mapping[str, Parameter],
    optimizer: Optimizer,
    groups: Mapping[tuple[int, ...], Communicator],
) -> Runtime:
    """Build this rank's part; nothing here communicates."""
    settings = {
        p.name: optimizer.settings(i) for i, p in enumerate(optimizer.parameters)
    }
    # Where the order of sums is free, a rank's share of the batch is one grain.
    is_canonical = plan.policy.reduction == "canonical"
    num_own_grains = plan.grains_per_rank if is_canonical else 1
    memory = np.empty(plan.bytes_per_rank(comm.rank).receive, np.uint8)
    arenas = _make_arenas(plan, comm.rank, parameters, optimizer)
    exchanges = []
    for arena in [arena for arena in arenas if arena.bucket.is_trainable]:
        group = groups.get(plan.group(arena.bucket, comm.rank))
        exchanges.append(
            BucketExchange(
                arena,
                None if group is None else _reducer(plan, arena.bucket, group, memory),
                Stepper(arena, optimizer.rule, settings),
                is_sharded=arena.bucket.is_sharded,
                scale=comm.size / plan.group_size(arena.bucket),
            )
        )
    return Runtime(
        arenas=arenas,
        exchanges=tuple(exchanges),
        backward=Backward(
            [e.arena for e in exchanges],
            num_grains=num_own_grains,
            first_grain=comm.rank * num_own_grains,
        ),
        num_grains=num_own_grains * comm.size,
        groups=groups,
        num_ranks=comm.size,
    )


def _make_arenas(
    plan: Plan, rank: int, parameters: Mapping[str, Parameter], optimizer: Optimizer
) -> tuple[Arena, ...]:
    """Allocate every bucket's memory; take over what state the optimizer has."""
    state = {
        slot: {
            parameter.name: member.asnumpy()
            for parameter, member in zip(optimizer.parameters, members, strict=True)
        }
        for slot, members in optimizer.allocated_state.items()
    }
    arenas = []
    for bucket in plan.buckets:
        is_cut = bucket.is_sharded and bucket.is_trainable
        arena = Arena(
            bucket,
            parameters,
            num_partials=plan.num_partials if bucket.is_trainable else 0,
            updated=plan.owned(bucket, rank) if is_cut else Interval(0, bucket.numel),
        )
        arena.load_state(state)
        arenas.append(arena)
    return tuple(arenas)


def _reducer(plan: Plan, bucket: Bucket, group: Communicator, memory: Array) -> Reducer:
    return Reducer(
        group,
        tuple(plan.intervals(bucket)),
        memory,
        dtype=dtype_named(bucket.dtype).numpy,
        is_canonical=plan.policy.reduction == "canonical",
    )


def _make_groups(plan: Plan, comm: Communicator) -> dict[tuple[int, ...], Communicator]:
    groups: dict[tuple[int, ...], Communicator] = {}
    for bucket in plan.buckets:
        ranks = tuple(plan.group(bucket, comm.rank))
        if len(ranks) == comm.size > 1:
            groups[ranks] = comm
        elif len(ranks) > 1 and ranks not in groups:
            groups[ranks] = comm.group(ranks)
    return groups
