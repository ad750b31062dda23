"""From a plan to what executes it on one rank: arenas, groups, exchanges.

Everything is made here, once, in plan order; afterwards nothing is allocated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from parallel_params.comm.protocol import Communicator
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.bucket import Bucket
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.backward import Backward
from parallel_params.runtime.exchange import BucketExchange
from parallel_params.runtime.reducer import Reducer
from parallel_params.runtime.stepper import Stepper
from parallel_params.tensor.dtype import dtype_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What executes a plan on one rank.

    Attributes:
        arenas: of all buckets, frozen ones included, in plan order.
        exchanges: of the trainable buckets, in plan order.
        backward: fills the arenas of `exchanges`.
        num_grains: of all ranks.
        groups: communicator per group of ranks; none for groups of one.
    """

    arenas: tuple[Arena, ...]
    exchanges: tuple[BucketExchange, ...]
    backward: Backward
    num_grains: int
    groups: Mapping[tuple[int, ...], Communicator]

    def close(self) -> None:
        """Free the groups.

        Collective: all ranks.
        """
        for group in self.groups.values():
            group.close()


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
        optimizer: its rule and settings; it is not changed.

    Collective: all ranks.
    """
    settings = {
        p.name: optimizer.settings(i) for i, p in enumerate(optimizer.parameters)
    }
    # Where the order of sums is free, a rank's share of the batch is one grain.
    is_canonical = plan.policy.reduction == "canonical"
    num_own_grains = plan.grains_per_rank if is_canonical else 1
    groups = _make_groups(plan, comm)
    arenas, exchanges = [], []
    for bucket in plan.buckets:
        arena = Arena(
            bucket,
            parameters,
            num_partials=plan.num_partials if bucket.is_trainable else 0,
            updated=_updated(plan, bucket, comm.rank),
        )
        arenas.append(arena)
        if not bucket.is_trainable:
            continue
        ranks = tuple(plan.group(bucket, comm.rank))
        reducer = None
        if len(ranks) > 1:
            reducer = Reducer(
                groups[ranks],
                tuple(plan.intervals(bucket)),
                dtype_named(bucket.dtype).numpy,
                is_canonical=is_canonical,
            )
        exchanges.append(
            BucketExchange(
                arena,
                reducer,
                Stepper(arena, optimizer.rule, settings),
                is_sharded=bucket.is_sharded,
                scale=comm.size / len(ranks),
            )
        )
    return Runtime(
        arenas=tuple(arenas),
        exchanges=tuple(exchanges),
        backward=Backward(
            [e.arena for e in exchanges],
            num_grains=num_own_grains,
            first_grain=comm.rank * num_own_grains,
        ),
        num_grains=num_own_grains * comm.size,
        groups=groups,
    )


def _updated(plan: Plan, bucket: Bucket, rank: int) -> Interval:
    if bucket.is_sharded and bucket.is_trainable:
        return plan.owned(bucket, rank)
    return Interval(0, bucket.numel)


def _make_groups(plan: Plan, comm: Communicator) -> dict[tuple[int, ...], Communicator]:
    groups: dict[tuple[int, ...], Communicator] = {}
    for bucket in plan.buckets:
        ranks = tuple(plan.group(bucket, comm.rank))
        if len(ranks) > 1 and ranks not in groups:
            groups[ranks] = comm.group(ranks)
    return groups
