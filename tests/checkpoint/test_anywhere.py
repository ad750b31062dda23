"""A checkpoint of any world, level and mesh goes on in any other, bit for bit."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from odd_nets import OPTIMIZERS, policy_of
from ranked import OnRanks, assert_on_all_ranks
from saved_states import GRAINS, NUM_STEPS, make_manager, take_steps, tensors_in
from small_nets import adamw, make_net

from parallel_params import nn, optim
from parallel_params.checkpoint.live import parts_held
from parallel_params.checkpoint.manifest import Layout
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Transport
from parallel_params.tensor.dtype import float16
from parallel_params.tensor.tensor import Tensor

# Ranks, level, ranks per node; all of them under one optimizer.
WORLDS = [
    (num_ranks, level, per_node)
    for num_ranks, per_node in [(1, None), (2, None), (3, 2), (4, 2)]
    for level in range(4)
]
FEW_WORLDS = [(3, 2, 2), (4, 3, 2)]
RUNS = [("adamw", *world) for world in [*WORLDS, (5, 3, 1), (8, 1, 4)]]
RUNS += [
    (name, *world) for name in OPTIMIZERS if name != "adamw" for world in FEW_WORLDS
]
LAST = NUM_STEPS + 2

Reference = tuple[Path, Mapping[str, bytes], str, str]


@pytest.fixture(scope="module")
def references(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Reference]:
    """Save on one rank at level 0; return the hashes then and two steps later."""
    folder = tmp_path_factory.mktemp("references")

    @cache
    def reference(optimizer: str) -> Reference:
        def body(comm: Communicator) -> tuple[str, str]:
            manager, net = make_manager(comm, 0, optimizer=optimizer)
            take_steps(manager, net)
            manager.save(folder / optimizer)
            saved = manager.weights_hash()
            take_steps(manager, net, LAST)
            return saved, manager.weights_hash()

        hashes = run_threads(1, body)[0]
        return folder / optimizer, tensors_in(folder / optimizer), *hashes

    return reference


@pytest.mark.parametrize(("optimizer", "num_ranks", "level", "per_node"), RUNS)
def test_every_world_loads_what_one_rank_saved_and_saves_the_same(
    references: Callable[[str], Reference],
    tmp_path: Path,
    optimizer: str,
    num_ranks: int,
    level: int,
    per_node: int | None,
) -> None:
    path, expected, saved_hash, _ = references(optimizer)

    def body(comm: Communicator) -> str:
        manager, _ = make_manager(
            comm, level, seed=5, per_node=per_node, optimizer=optimizer
        )
        assert manager.load(path).notes == ()
        manager.save(tmp_path / "again")
        return manager.weights_hash()

    assert run_threads(num_ranks, body) == [saved_hash] * num_ranks
    assert tensors_in(tmp_path / "again") == expected


@pytest.mark.parametrize(
    ("optimizer", "num_ranks", "level", "per_node"),
    [run for run in RUNS if run[1] in (1, 2, 4)],
)
def test_a_continued_run_has_the_bits_of_the_run_that_never_stopped(
    references: Callable[[str], Reference],
    tmp_path: Path,
    optimizer: str,
    num_ranks: int,
    level: int,
    per_node: int | None,
) -> None:
    """Trained and saved in this world; continued at another level on other ranks."""
    last_hash = references(optimizer)[3]

    def save(comm: Communicator) -> None:
        manager, net = make_manager(comm, level, per_node=per_node, optimizer=optimizer)
        take_steps(manager, net)
        manager.save(tmp_path / "saved")

    def go_on(comm: Communicator) -> str:
        manager, net = make_manager(comm, 3 - level, seed=5, optimizer=optimizer)
        manager.load(tmp_path / "saved")
        take_steps(manager, net, LAST)
        return manager.weights_hash()

    run_threads(num_ranks, save)
    for others in {1, 4 // num_ranks}:
        assert run_threads(others, go_on) == [last_hash] * others


@pytest.mark.mpi
def test_processes_go_on_from_what_threads_saved_and_the_other_way(
    on_ranks: OnRanks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def manage(comm: Communicator, level: int) -> tuple[ParameterManager, nn.Cell]:
        net = make_net(comm.size + level)
        policy = policy_of(level, grains=GRAINS, bucket_bytes=1 << 20)
        return ParameterManager(net, adamw(net), comm=comm, policy=policy), net

    def one_rank(comm: Communicator, path: Path) -> str:
        manager, net = manage(comm, 0)
        take_steps(manager, net)
        manager.save(path)
        take_steps(manager, net, LAST)
        return manager.weights_hash()

    def body(comm: Communicator) -> None:
        if GRAINS % comm.size:
            return
        own = str(tmp_path_factory.mktemp("worlds"))
        folder = Path(comm.all_gather_bytes(own.encode())[0].decode())
        expected = ""
        if comm.rank == 0:
            expected = run_threads(1, lambda one: one_rank(one, folder / "0"))[0]
        comm.barrier()
        found = []
        for before, level in (("0", 3), ("3", 1), ("1", 0)):
            manager, net = manage(comm, level)
            manager.load(folder / before)
            layout: Layout = "shards" if level else "one"
            manager.save(folder / (str(level) if level else "last"), layout=layout)
            take_steps(manager, net, LAST)
            found.append(manager.weights_hash())
        ok = comm.rank > 0 or found == [expected] * 3
        assert_on_all_ranks(comm, ok, f"{found}, {expected}")

    on_ranks(body)


@pytest.mark.parametrize(
    ("level", "weights_only"), [(0, False), (0, True), (1, True), (2, True)]
)
def test_ranks_of_a_node_read_what_all_of_them_have_once_together(
    references: Callable[[str], Reference], level: int, weights_only: bool
) -> None:
    """Two nodes of two ranks read twice what one rank alone reads.

    At level 0 that is all of it, and every rank then has all of it.
    """
    path = references("adamw")[0]

    def body(comm: Communicator, per_node: int) -> tuple[int, list[bytes]]:
        manager, _ = make_manager(comm, level, per_node=per_node, seed=5)
        num_bytes = manager.load(path, weights_only=weights_only).bytes_read
        comm.barrier()
        parts = parts_held(manager.plan, comm.rank, manager._open.arenas)
        has = [p.values.tobytes() for p in parts if not (weights_only and p.key.slot)]
        return num_bytes, has

    alone, has_alone = run_threads(1, lambda comm: body(comm, 1))[0]
    found = run_threads(4, lambda comm: body(comm, 2))
    read = [num_bytes for num_bytes, _ in found]
    assert all(num_bytes > 0 for num_bytes in read)
    assert read[0] + read[1] == read[2] + read[3] == alone
    if level == 0:
        assert all(has == has_alone for _, has in found)


def test_a_state_wider_than_its_whole_bucket_reaches_every_rank(
    tmp_path: Path,
) -> None:
    """A float16 scalar has two bytes, and its average and its master four each."""

    def body(comm: Communicator, level: int) -> tuple[list[bytes], ...]:
        gain = Parameter(Tensor(0.3, float16), name="gain")
        policy = policy_of(level, grains=4)
        optimizer = optim.SGD([gain], 0.1, momentum=0.9)
        manager = ParameterManager([gain], optimizer, policy=policy, comm=comm)
        if comm.size == 1:
            manager.update({"gain": np.float16(0.7)})
            manager.save(tmp_path / "saved")
        manager.load(tmp_path / "saved")
        parts = [*parts_held(manager.plan, comm.rank, manager._open.arenas)]
        has = [part.values.tobytes() for part in parts]
        manager.update({"gain": np.float16(0.2)})
        return has, [part.values.tobytes() for part in parts]

    alone = run_threads(1, partial(body, level=0))[0]
    assert all(len(has) == 3 for has in alone)
    assert run_threads(4, partial(body, level=0)) == [alone] * 4


def test_policy_of_saves_is_not_one_of_loads(tmp_path: Path) -> None:
    """Buckets, thresholds and transports may all be others."""

    def save(comm: Communicator) -> str:
        manager, net = make_manager(comm, 2)
        take_steps(manager, net)
        manager.save(tmp_path / "saved")
        return manager.weights_hash()

    def load(comm: Communicator) -> str:
        policy = policy_of(3, bucket_bytes=1, transport="messages")
        manager, _ = make_manager(comm, seed=5, policy=policy)
        manager.load(tmp_path / "saved")
        return manager.weights_hash()

    assert run_threads(4, save)[0] == run_threads(2, load)[0]


@pytest.mark.parametrize(("num_ranks", "level"), [(2, 0), (4, 3)])
def test_a_run_goes_on_with_its_bits_over_another_transport(
    references: Callable[[str], Reference], num_ranks: int, level: int
) -> None:
    path, _, _, last_hash = references("adamw")

    def go_on(comm: Communicator) -> str:
        policy = policy_of(level, grains=GRAINS, transport="messages")
        manager, net = make_manager(comm, seed=5, per_node=2, policy=policy)
        manager.load(path)
        take_steps(manager, net, LAST)
        return manager.weights_hash()

    assert run_threads(num_ranks, go_on) == [last_hash] * num_ranks


# Ranks, ranks per node, transport, level: of the runs that save, go fast, come back.
ROUTES: list[tuple[tuple[int, int, Transport, int], ...]] = [
    ((1, 1, "auto", 0), (2, 2, "auto", 2), (4, 2, "messages", 3)),
    ((4, 2, "auto", 3), (4, 1, "messages", 1), (2, 2, "auto", 0)),
    ((2, 1, "messages", 1), (4, 4, "auto", 3), (1, 1, "auto", 2)),
]


@pytest.mark.parametrize("route", ROUTES)
def test_a_state_goes_to_the_fast_reduction_and_back(
    tmp_path: Path, route: tuple[tuple[int, int, Transport, int], ...]
) -> None:
    """Over other transports and nodes; back in canonical mode the bits are those."""

    def manage(comm: Communicator, number: int) -> tuple[ParameterManager, nn.Cell]:
        _, per_node, transport, level = route[number]
        is_fast, net = number == 1, make_net(number)
        policy = policy_of(
            level, grains=None if is_fast else GRAINS, transport=transport
        )
        policy = replace(policy, reduction="fast" if is_fast else "canonical")
        mesh = Mesh(data=comm.size, ranks_per_node=per_node)
        manager = ParameterManager(net, adamw(net), comm=comm, policy=policy, mesh=mesh)
        return manager, net

    def save(comm: Communicator) -> tuple[str, str]:
        manager, net = manage(comm, 0)
        take_steps(manager, net)
        manager.save(tmp_path / "first")
        saved = manager.weights_hash()
        take_steps(manager, net, LAST)
        return saved, manager.weights_hash()

    def go_fast(comm: Communicator, name: str) -> tuple[str, str]:
        manager, net = manage(comm, 1)
        manager.load(tmp_path / "first")
        manager.save(tmp_path / name, layout="shards")
        loaded = manager.weights_hash()
        take_steps(manager, net, LAST)
        return loaded, manager.weights_hash()

    def come_back(comm: Communicator) -> str:
        manager, net = manage(comm, 2)
        manager.load(tmp_path / "second")
        take_steps(manager, net, LAST)
        return manager.weights_hash()

    saved, last = run_threads(route[0][0], save)[0]
    fast, again = (
        run_threads(route[1][0], partial(go_fast, name=name))[0]
        for name in ("second", "third")
    )
    assert fast == again  # in a world of one size
    assert fast[0] == saved
    assert run_threads(route[2][0], come_back) == [last] * route[2][0]
