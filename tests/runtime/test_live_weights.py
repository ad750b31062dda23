"""Weights that are cut over nodes: how many are whole at a time, and in which order."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from odd_nets import policy_of
from ranked import assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, make_net, share_of

from parallel_params import nn, ops, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.pages import resident_bytes
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn import parallel
from parallel_params.plan.gathers import Event, course_of, find_releases, largest_live
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.runtime.stream import make_order
from parallel_params.tensor.random import set_seed

WIDTH, DEPTH, NUM_STEPS = 128, 9, 3
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs madvise, mincore")


def largest_live_bytes(
    comm: Communicator,
    per_node: int,
    model: int | None = None,
    together: tuple[int, ...] = (),
) -> tuple[int, int]:
    """Train at level 3; return the most bytes of whole weights seen, and the plan's.

    Args:
        comm: the ranks.
        per_node: how many of them share a node.
        model: length of a layerwise axis.
        together: layers whose weights lie in one bucket.
    """
    layers = [nn.Dense(WIDTH, WIDTH, activation="tanh") for _ in range(DEPTH)]
    net = nn.SequentialCell(*layers)
    _travel_together(net, layers, together)
    policy = Policy(level=Level.WEIGHT)
    mesh = Mesh(data=comm.size, ranks_per_node=per_node)
    if model is not None:
        mesh = Mesh(data=comm.size // model, model=model, ranks_per_node=per_node)
        for parameter in net.trainable_params():
            parameter.layerwise_parallel = True
    optimizer = optim.SGD(net.trainable_params(), 0.1)
    x = np.ones((2, WIDTH), np.float32)
    seen = [0]
    with ParameterManager(
        net, optimizer, policy=policy, mesh=mesh, comm=comm
    ) as manager:
        gatherer = manager._open.gatherer
        arrive = gatherer.arrive

        def watched(index: int) -> None:
            arrive(index)
            weights = [arena.weight for arena in gatherer._arenas]
            seen.append(sum(resident_bytes(weight) for weight in weights))

        gatherer.arrive = watched  # type: ignore[method-assign]  # to look behind it
        for _ in range(NUM_STEPS):
            manager.step(lambda x: ops.mean(net(x)), x)
        gatherer.arrive = arrive  # type: ignore[method-assign]  # as it was
        held = manager.plan.bytes_per_rank(comm.rank)
        slots = 2 * max(arena.bucket.weight_bytes for arena in gatherer._arenas)
        # Each rank of a node counts its lane of what they share.
        per_group = per_node if model is None else max(1, per_node // model)
        return max(seen), (held.in_flight - slots) * per_group


@ON_LINUX
@pytest.mark.parametrize(("per_node", "number"), [(1, 3), (2, 4)])
def test_whole_weights_are_bounded_as_planned(per_node: int, number: int) -> None:
    found = run_threads(4, partial(largest_live_bytes, per_node=per_node))

    for seen, planned in found:
        assert planned == number * WIDTH * WIDTH * 4
        assert 0 < seen <= planned


@ON_LINUX
@pytest.mark.parametrize(
    ("together", "per_node", "number"),
    [((0, 4), 1, 6), ((0, 4), 2, 7), ((0, DEPTH - 1), 1, DEPTH)],
)
def test_a_bucket_over_many_layers_is_in_the_bound(
    together: tuple[int, ...], per_node: int, number: int
) -> None:
    # It waits for its last layer, and all between wait with it.
    found = run_threads(
        4, partial(largest_live_bytes, per_node=per_node, together=together)
    )

    for seen, planned in found:
        assert planned == number * WIDTH * WIDTH * 4
        assert 0 < seen <= planned


@pytest.mark.parametrize("model", [1, 2])
@pytest.mark.parametrize("together", [(), (0, 4), (2, 5)], ids=str)
def test_a_run_follows_the_course_of_the_plan(
    together: tuple[int, ...], model: int
) -> None:
    """On a mesh as well: slices are gathered along data, cells meet along model."""

    def body(comm: Communicator) -> tuple[list[Event], list[Event]]:
        mesh = Mesh(data=2, model=model)
        axis = parallel.open_axis(comm, mesh)
        layers: list[nn.Cell] = []
        for _ in range(3):
            layers.append(parallel.ColumnParallelDense(4, 4, axis=axis))
            layers.append(parallel.RowParallelDense(4, 4, axis=axis))
        net = nn.SequentialCell(*layers)
        _travel_together(net, layers, together)
        policy = policy_of(3, bucket_bytes=10**6, grains=4, transport="messages")
        optimizer = optim.SGD(net.trainable_params(), 0.1)
        seen: list[Event] = []
        with ParameterManager(
            net, optimizer, policy=policy, mesh=mesh, comm=comm
        ) as manager:
            assert manager.plan.bucket_of("0.weight").axes[0] == "data"
            gatherer = manager._open.gatherer
            last = gatherer.num_buckets - 1
            start, arrive, drop = gatherer.start, gatherer.arrive, gatherer._drop

            def starting(index: int) -> None:
                seen.append(("start", last - index))
                start(index)

            def arriving(index: int) -> None:
                seen.append(("arrive", last - index))
                arrive(index)

            def dropping(index: int) -> None:
                if index in gatherer._live:
                    seen.append(("drop", last - index))
                drop(index)

            gatherer.start = starting  # type: ignore[method-assign]  # to listen
            gatherer.arrive = arriving  # type: ignore[method-assign]
            gatherer._drop = dropping  # type: ignore[method-assign]
            manager.step(lambda x: ops.mean(net(x)), np.ones((2, 4), np.float32))
            planned = [*course_of(gatherer.releases)] * manager.plan.grains_per_rank
            return seen.copy(), planned  # on leaving all are gathered

    for seen, planned in run_threads(2 * model, body):
        assert ("start", 2) in planned  # while the first two are used
        assert seen == planned


def test_what_is_live_is_counted_along_the_course() -> None:
    # Four equal buckets: two in use and one on its way.
    assert largest_live([8] * 4, [False] * 4, [2, 3, 4, 4]) == 24
    # All stay to the end.
    assert largest_live([8] * 4, [False] * 4, [4, 4, 4, 4]) == 32
    # The large one is never beside the one that comes three later.
    assert largest_live([100, 1, 1, 50], [False] * 4, [2, 3, 4, 4]) == 102
    # Its pages are given back later where a node shares it.
    assert largest_live([100, 1, 1, 50], [True] * 4, [2, 3, 4, 4]) == 152
    assert largest_live([5], [False], [1]) == 5


@ON_LINUX
def test_slices_of_a_mesh_on_nodes_are_bounded_as_planned() -> None:
    # A node has both slices; each is gathered by itself from the other node.
    body = partial(largest_live_bytes, per_node=2, model=2)

    for seen, planned in run_threads(4, body):
        assert planned == 3 * WIDTH * WIDTH * 4
        assert 0 < seen <= planned


@ON_LINUX
@pytest.mark.mpi(min_size=4)
def test_whole_weights_in_windows_are_bounded(world: Communicator) -> None:
    seen, planned = largest_live_bytes(world, 2)
    assert_on_all_ranks(world, 0 < seen <= planned, f"{seen} bytes, planned {planned}")


def test_a_manager_closed_while_weights_are_whole_leaves_them_whole() -> None:
    def body(comm: Communicator) -> bool:
        net = make_net()
        policy = policy_of(3, transport="messages")
        manager = ParameterManager(net, adamw(net), policy=policy, comm=comm)
        with manager.unsharded():
            before = [p.asnumpy().copy() for p in net.get_parameters()]
            manager.close()
        return all(
            np.array_equal(p.asnumpy(), values)
            for p, values in zip(net.get_parameters(), before, strict=True)
        )

    assert run_threads(2, body) == [True, True]


def test_the_next_weights_are_on_their_way_while_others_are_used() -> None:
    names = [f"{k}.weight" for k in range(4)]
    releases = find_releases([[name] for name in names], _declared(names))
    order, due = make_order(range(4), range(4), releases)
    # Bucket 0 is forward's last. Of an event: what has to be there, what is done, and
    # what the event after it needs.
    assert releases == [2, 3, 4, 4]
    assert order == [
        *[("start", 0), ("start", 1), ("gather", 0), ("gather", 1), ("start", 2)],
        *[("gather", 2), ("reduce", 0), ("start", 3)],
        *[("gather", 3), ("reduce", 1)],
        *[("reduce", 2), ("reduce", 3)],
    ]
    assert due == [12, 11, 10, 8, 5]


@pytest.mark.parametrize("depth", range(1, 7))
def test_every_gather_is_started_once_and_before_it_is_needed(depth: int) -> None:
    names = [f"{k // 2}.{k % 2}" for k in range(depth)]
    releases = find_releases([[name] for name in names], _declared(names))
    order, _ = make_order(range(depth), range(depth), releases)
    for index in range(depth):
        places = [order.index((kind, index)) for kind in ("start", "gather", "reduce")]
        assert places == sorted(places)
    assert len(set(order)) == len(order) == 3 * depth


def test_a_bucket_stays_until_its_last_parameter_is_used() -> None:
    declared = _declared([f"{k}.weight" for k in range(6)])
    buckets = [["4.weight", "0.weight"], *([f"{k}.weight"] for k in (1, 2, 3, 5))]
    assert find_releases(buckets, declared)[0] == 4


@pytest.mark.parametrize("bucket_bytes", [1, 200])
@pytest.mark.parametrize("frozen", [(5,), (3,), (1, 3, 5), (0, 1, 2, 4)], ids=str)
def test_layers_may_be_frozen_wherever_they_are(
    frozen: tuple[int, ...], bucket_bytes: int
) -> None:
    def body(comm: Communicator, level: int) -> str:
        set_seed(1)
        net = nn.SequentialCell(*[nn.Dense(4, 4, activation="tanh") for _ in range(6)])
        for layer in frozen:
            for parameter in net[layer].get_parameters():
                parameter.requires_grad = False
        policy = policy_of(
            level, bucket_bytes=bucket_bytes, grains=4, transport="messages"
        )
        optimizer = optim.SGD(net.trainable_params(), 0.1)
        with ParameterManager(net, optimizer, policy=policy, comm=comm) as manager:
            for _ in range(2):
                manager.step(lambda x: ops.mean(net(x)), np.ones((2, 4), np.float32))
            return manager.weights_hash()

    (expected,) = run_threads(1, lambda comm: body(comm, 0))
    assert run_threads(2, lambda comm: body(comm, 3)) == [expected] * 2


def _travel_together(
    net: nn.Cell, layers: Sequence[nn.Cell], together: Sequence[int]
) -> None:
    """Have the weights of some layers in one bucket, and all else alone."""
    for parameter in net.get_parameters():
        parameter.comm_fusion = 0
    for layer in together:
        layers[layer].weight.comm_fusion = 7


def _declared(names: list[str]) -> dict[str, int]:
    return {name: position for position, name in enumerate(names)}


@pytest.mark.parametrize("num_ranks", [1, 4])
@pytest.mark.parametrize("level", [1, 3])
def test_whole_weights_are_for_reading(
    num_ranks: int, level: int, tmp_path: Path
) -> None:
    def body(comm: Communicator) -> bool:
        net = make_net()
        policy = policy_of(level, grains=4, transport="messages")
        with ParameterManager(net, adamw(net), policy=policy, comm=comm) as manager:
            batch = share_of(comm, *global_batch(4))
            manager.step(loss_of(net), *batch)
            manager.save(tmp_path / "saved")
            before = manager.weights_hash()
            attempts: list[Callable[[], object]] = [
                lambda: manager.step(loss_of(net), *batch),
                lambda: manager.accumulate(loss_of(net), *batch),
                lambda: manager.value_and_grad(loss_of(net), *batch),
                lambda: manager.update({}),
                lambda: manager.load(tmp_path / "saved"),
            ]
            with manager.unsharded():
                for attempt in attempts:
                    with pytest.raises(RuntimeError, match=r"manager\.unsharded"):
                        attempt()
            is_same = manager.weights_hash() == before
            manager.step(loss_of(net), *batch)
            return is_same and manager.weights_hash() != before

    assert run_threads(num_ranks, body) == [True] * num_ranks
