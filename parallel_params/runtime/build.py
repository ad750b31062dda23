"""From a plan to what executes it on one rank: windows, arenas, groups, the step.

Everything is made here, once, in plan order; afterwards next to nothing is allocated.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.protocol import Communicator
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.settings import Settings
from parallel_params.plan.plan import Plan
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.backward import Backward
from parallel_params.runtime.exchange import Exchange, make_flights, make_reducers
from parallel_params.runtime.flights import Flights
from parallel_params.runtime.gatherer import Gatherer
from parallel_params.runtime.groups import Groups
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.runtime.reducer import Reducer
from parallel_params.runtime.role import Role
from parallel_params.runtime.rounds import make_rounds
from parallel_params.runtime.statistics import Statistics
from parallel_params.runtime.step import Step
from parallel_params.runtime.stepper import Stepper
from parallel_params.runtime.stream import Streams
from parallel_params.runtime.verdict import Verdict
from parallel_params.runtime.writes import Writes
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What executes a plan on one rank.

    Attributes:
        arenas: of all buckets, frozen ones included, in plan order.
        step: what follows a backward pass.
        backward: fills the arenas, and reduces those that are streamed.
        streams: the collectives during the last grain's backward.
        gatherer: makes weights whole that are cut over nodes.
        statistics: what follows the grains without a gradient.
        node: the windows.
        groups: the communicators.
    """

    arenas: tuple[Arena, ...]
    step: Step
    backward: Backward
    streams: Streams
    gatherer: Gatherer
    statistics: Statistics
    node: NodeMemory
    groups: Groups

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Make all weights whole for a while; inside of itself it changes nothing.

        Collective: all ranks.
        """
        is_outermost = not self.gatherer.is_whole
        self.gatherer.gather_all()
        try:
            yield
        finally:
            if is_outermost:
                self.gatherer.drop_all()

    def whole_buffers(self) -> list[Array]:
        """Return a new buffer [numel] for the gradient of every streamed bucket."""
        return [
            np.zeros(arena.bucket.numel, arena.dtype)
            for arena in self.arenas
            if arena.role.is_streamed
        ]

    def release(self) -> None:
        """Let go of the parameters, which keep the values that this rank can see."""
        for arena in self.arenas:
            is_shared = arena.role.has_shared_weight or arena.role.is_gathered
            for view, parameter in zip(
                arena.views(arena.weight), arena.parameters, strict=True
            ):
                if is_shared:
                    parameter.settle(view.copy())
                parameter.release()

    def close(self) -> None:
        """Free windows and groups.

        Collective: all ranks.
        """
        self.node.close()
        self.groups.close()


def build_runtime(
    plan: Plan,
    comm: Communicator,
    parameters: Mapping[str, Parameter],
    optimizers: Sequence[Optimizer],
    opened: tuple[Groups, tuple[Role, ...], NodeMemory],
) -> Runtime:
    """Allocate the arenas of a plan and move the parameters there.

    Args:
        plan: the same on all ranks.
        comm: all ranks of the plan.
        parameters: by name; their storage moves into the arenas.
        optimizers: their rules and settings, and the state they may have; not changed.
        opened: groups, roles and windows of the plan.

    Raises:
        RankFailed: a rank had no memory, or no values for a lazy parameter. All ranks
            have let go of their parameters then.

    Collective: all ranks.
    """
    groups, roles, node = opened
    error: Exception | None = None
    try:
        arenas = _make_arenas(plan, roles, node, parameters, optimizers)
        for arena in arenas:
            arena.load_weights()
    except Exception as raised:
        error = raised
    try:
        agree_ok(comm, error)
    except Exception:
        for parameter in parameters.values():
            parameter.release()
        raise
    node.hand_over_weights()
    for arena in arenas:
        arena.refresh_master()
    return _assemble(plan, comm, optimizers, arenas, node, groups)


def _assemble(
    plan: Plan,
    comm: Communicator,
    optimizers: Sequence[Optimizer],
    arenas: tuple[Arena, ...],
    node: NodeMemory,
    groups: Groups,
) -> Runtime:
    """Wire this rank's part; nothing here communicates."""
    flights = make_flights(plan, arenas)
    reducers = make_reducers(plan, arenas, flights)
    step = _make_step(plan, comm, optimizers, arenas, reducers, node, flights, groups)
    pairs = zip(arenas, reducers, strict=True)
    cut = [pair for pair in pairs if pair[0].role.is_gathered]
    gatherer = Gatherer([arena for arena, _ in cut], [r for _, r in cut], node)
    gathered = [arena.bucket.index for arena, _ in cut]
    trained = [arena for arena in arenas if arena.bucket.is_trainable]
    streamed = [arena for arena in trained if arena.role.is_streamed]
    rest = (gathered, gatherer, node, step.reduce_streamed, flights)
    streams, earlier = (Streams(each, *rest) for each in (streamed, []))
    statistics = Statistics(plan, comm, arenas, node)
    _watch_writes(arenas, node)
    return Runtime(
        arenas=arenas,
        step=step,
        backward=Backward(
            trained,
            streams,
            earlier,
            gatherer,
            statistics,
            num_grains=own_grains(plan),
            first_grain=plan.mesh.share_index(comm.rank) * own_grains(plan),
        ),
        streams=streams,
        gatherer=gatherer,
        statistics=statistics,
        node=node,
        groups=groups,
    )


def _make_step(
    plan: Plan,
    comm: Communicator,
    optimizers: Sequence[Optimizer],
    arenas: Sequence[Arena],
    reducers: Sequence[Reducer],
    node: NodeMemory,
    flights: Flights,
    groups: Groups,
) -> Step:
    settings = {
        p.name: optimizer.settings(i)
        for optimizer in optimizers
        for i, p in enumerate(optimizer.parameters)
    }
    exchanges = [
        Exchange(
            arena=arena,
            reducer=reducer,
            stepper=_stepper(plan, arena, optimizers, settings),
            scale=comm.size
            / plan.group_size(arena.bucket)
            / optimizers[arena.bucket.optimizer].loss_scale,
        )
        for arena, reducer in zip(arenas, reducers, strict=True)
        if arena.bucket.is_trainable
    ]
    verdict: Verdict | None = None
    if plan.policy.has_verdict:
        verdict = Verdict(plan, comm, [e.arena for e in exchanges], settings)
    rounds = make_rounds(plan, comm, [e.stepper for e in exchanges], groups)
    return Step(plan, exchanges, node, flights, verdict, rounds)


def _watch_writes(arenas: Sequence[Arena], node: NodeMemory) -> None:
    """Let values that a user sets reach every copy, where there is more than one."""
    writes = Writes(node)
    for arena in arenas:
        role = arena.role
        if role.has_shared_weight or role.is_gathered or MASTER_WEIGHT in arena.state:
            writes.watch(arena)


def own_grains(plan: Plan) -> int:
    """Return the grains of a rank; where the order of sums is free its share is one."""
    return plan.grains_per_rank if plan.policy.reduction == "canonical" else 1


def _stepper(
    plan: Plan,
    arena: Arena,
    optimizers: Sequence[Optimizer],
    settings: Mapping[str, Settings],
) -> Stepper:
    clip = plan.policy.clip
    return Stepper(
        arena,
        optimizers[arena.bucket.optimizer].rule,
        settings,
        alignment=plan.policy.alignment,
        is_by_parameter=clip is not None and clip.per == "parameter",
    )


def _make_arenas(
    plan: Plan,
    roles: Sequence[Role],
    node: NodeMemory,
    parameters: Mapping[str, Parameter],
    optimizers: Sequence[Optimizer],
) -> tuple[Arena, ...]:
    """Allocate every bucket's memory; take over what state the optimizers have."""
    state: dict[str, dict[str, Array]] = {}
    for optimizer in optimizers:
        for slot in optimizer.allocated_state:
            known = state.setdefault(slot, {})
            known |= {
                p.name: optimizer.state_of(i)[slot].asnumpy()
                for i, p in enumerate(optimizer.parameters)
                if slot in optimizer.slots(i).names
            }
    arenas = tuple(
        Arena(role, node, parameters, num_grains=own_grains(plan)) for role in roles
    )
    for arena in arenas:
        arena.load_state(state)
    return arenas
