"""From a plan to what executes it on one rank: windows, arenas, groups, the step.

Everything is made here, once, in plan order; afterwards next to nothing is allocated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.protocol import Communicator
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.settings import Settings
from parallel_params.plan.gathers import first_declared
from parallel_params.plan.plan import Plan
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
from parallel_params.runtime.runtime import Runtime
from parallel_params.runtime.statistics import Statistics
from parallel_params.runtime.step import Step
from parallel_params.runtime.stepper import Stepper
from parallel_params.runtime.stream import Streams
from parallel_params.runtime.verdict import Verdict
from parallel_params.runtime.writes import Writes
from parallel_params.tensor.tape import Array


def build_runtime(
    plan: Plan,
    comm: Communicator,
    parameters: Mapping[str, Parameter],
    optimizers: Sequence[Optimizer],
    opened: tuple[Groups, tuple[Role, ...], NodeMemory],
    starts: Mapping[str, int],
) -> Runtime:
    """Allocate the arenas of a plan and move the parameters there.

    Args:
        plan: the same on all ranks.
        comm: all ranks of the plan.
        parameters: by name; their storage moves into the arenas.
        optimizers: their rules and settings, and the state they may have; not changed.
        opened: groups, roles and windows of the plan.
        starts: see `Course`.

    Raises:
        RankFailed: a rank had no memory, or no values for a lazy parameter. All ranks
            have let go of their parameters then.

    Collective: all ranks.
    """
    groups, roles, node = opened
    error: Exception | None = None
    try:
        arenas = make_arenas(plan, roles, node, parameters)
        load_state(arenas, optimizers)
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
    settings = settings_of(optimizers, starts)
    runtime = assemble(plan, comm, optimizers, settings, arenas, node, groups)
    runtime.bind()
    return runtime


def settings_of(
    optimizers: Sequence[Optimizer], starts: Mapping[str, int]
) -> dict[str, Settings]:
    """Return what the rules have to know of every parameter, by name."""
    return {
        p.name: replace(optimizer.settings(i), since=starts.get(p.name, 0))
        for optimizer in optimizers
        for i, p in enumerate(optimizer.parameters)
    }


def assemble(
    plan: Plan,
    comm: Communicator,
    optimizers: Sequence[Optimizer],
    settings: Mapping[str, Settings],
    arenas: tuple[Arena, ...],
    node: NodeMemory,
    groups: Groups,
) -> Runtime:
    """Wire this rank's part; nothing here communicates or touches a parameter."""
    flights = make_flights(plan, arenas)
    reducers = make_reducers(plan, arenas, flights)
    step = _make_step(
        plan, comm, optimizers, settings, arenas, reducers, node, flights, groups
    )
    gatherer, gathered = _make_gatherer(plan, arenas, reducers, node)
    trained = [arena for arena in arenas if arena.bucket.is_trainable]
    streamed = [arena for arena in trained if arena.role.is_streamed]
    rest = (gathered, gatherer, node, step.reduce_streamed, flights)
    streams, earlier = (Streams(each, *rest) for each in (streamed, []))
    statistics = Statistics(plan, comm, arenas, node)
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
        writes=Writes(plan, comm, node),
    )


def _make_gatherer(
    plan: Plan, arenas: Sequence[Arena], reducers: Sequence[Reducer], node: NodeMemory
) -> tuple[Gatherer, list[int]]:
    """Return what gathers, and the buckets that it gathers, in its order."""
    declared = {spec.name: position for position, spec in enumerate(plan.params)}
    pairs = zip(arenas, reducers, strict=True)
    # In the plan frozen buckets come last; a pass uses them among the others.
    cut = sorted(
        (pair for pair in pairs if pair[0].role.is_gathered),
        key=lambda pair: -first_declared(pair[0].bucket, declared),
    )
    gathered = [arena for arena, _ in cut]
    gatherer = Gatherer(gathered, [each for _, each in cut], node, declared)
    return gatherer, [arena.bucket.index for arena in gathered]


def _make_step(
    plan: Plan,
    comm: Communicator,
    optimizers: Sequence[Optimizer],
    settings: Mapping[str, Settings],
    arenas: Sequence[Arena],
    reducers: Sequence[Reducer],
    node: NodeMemory,
    flights: Flights,
    groups: Groups,
) -> Step:
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


def own_grains(plan: Plan) -> int:
    """Return the grains of a rank; where the order of sums is free its share is one."""
    return plan.grains_per_rank if plan.policy.reduction == "canonical" else 1


def _stepper(
    plan: Plan,
    arena: Arena,
    optimizers: Sequence[Optimizer],
    settings: Mapping[str, Settings],
) -> Stepper:
    clip, role = plan.policy.clip, arena.role
    # What is looked at, clipped or sent on is needed before the update.
    is_free = not (plan.policy.has_verdict or role.is_streamed or role.is_whole)
    rows: Sequence[Array] = ()
    if is_free and role.cross is None:
        rows = [peer[role.own.as_slice()] for peer in arena.peers[0]]
    return Stepper(
        arena,
        optimizers[arena.bucket.optimizer].rule,
        settings,
        alignment=plan.policy.alignment,
        is_by_parameter=clip is not None and clip.per == "parameter",
        rows=rows,
    )


def make_arenas(
    plan: Plan,
    roles: Sequence[Role],
    node: NodeMemory,
    parameters: Mapping[str, Parameter],
) -> tuple[Arena, ...]:
    """Allocate every bucket's memory; the parameters stay where they are."""
    return tuple(
        Arena(role, node, parameters, num_grains=own_grains(plan)) for role in roles
    )


def load_state(arenas: Sequence[Arena], optimizers: Sequence[Optimizer]) -> None:
    """Take over what state the optimizers have made before."""
    state: dict[str, dict[str, Array]] = {}
    for optimizer in optimizers:
        for slot in optimizer.allocated_state:
            known = state.setdefault(slot, {})
            known |= {
                p.name: optimizer.state_of(i)[slot].asnumpy()
                for i, p in enumerate(optimizer.parameters)
                if slot in optimizer.slots(i).names
            }
    for arena in arenas:
        arena.load_state(state)
