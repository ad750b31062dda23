"""Other weights to evaluate with: shown on all ranks, and put back bit by bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from odd_nets import OddNet, muon_and_adamw, policy_of
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, make_net, share_of

from parallel_params import nn, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointNotSaved, ManagerClosed
from parallel_params.manager import ParameterManager
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Transport

GRAINS = BATCH = 4
WAYS: tuple[tuple[Transport, int | None], ...] = (
    ("window", None),
    ("window", 2),
    ("messages", None),
)


def ema_of_both(net: nn.Cell) -> list[Optimizer]:
    """Return EMA over Muon, and over AdamW for the rest."""
    return [optim.EMA(each, 0.5) for each in muon_and_adamw(net)]


OPTIMIZERS: dict[str, Callable[[nn.Cell], Optimizer | list[Optimizer]]] = {
    "ema of adamw": lambda net: optim.EMA(optim.AdamW(net.trainable_params()), 0.5),
    "ema of lamb": lambda net: optim.EMA(optim.Lamb(net.trainable_params(), 0.01), 0.5),
    "ema of muon and adamw": ema_of_both,
    "schedule-free": lambda net: optim.ScheduleFreeAdamW(net.trainable_params(), 0.05),
}
Hashes = tuple[str, str, str]


def train(
    comm: Communicator,
    name: str,
    level: int,
    transport: Transport,
    per_node: int | None,
) -> Hashes:
    """Take three steps; return the hash before, inside of and after evaluation."""
    net = OddNet()
    with ParameterManager(
        net,
        OPTIMIZERS[name](net),
        comm=comm,
        policy=policy_of(level, grains=GRAINS, transport=transport),
        mesh=Mesh(data=comm.size, ranks_per_node=per_node),
    ) as manager:
        for step in range(3):
            manager.step(loss_of(net), *share_of(comm, *global_batch(BATCH, step)))
        before = manager.weights_hash()
        with manager.evaluation():
            inside = manager.weights_hash()
        return before, inside, manager.weights_hash()


@pytest.fixture(scope="module")
def references() -> dict[str, Hashes]:
    """Train on one rank at level 0, with every optimizer."""
    return {
        name: run_threads(1, lambda comm, n=name: train(comm, n, 0, "auto", None))[0]  # type: ignore[misc]  # bound now
        for name in OPTIMIZERS
    }


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize(
    ("num_ranks", "way"), [(2, WAYS[2]), (4, WAYS[0]), (4, WAYS[1])]
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_to_evaluate_with_have_the_bits_of_one_rank(
    references: dict[str, Hashes],
    name: str,
    num_ranks: int,
    way: tuple[Transport, int | None],
    level: int,
) -> None:
    hashes = run_threads(num_ranks, lambda comm: train(comm, name, level, *way))
    assert hashes == [references[name]] * num_ranks


def test_weights_come_back_bit_by_bit_and_differ_inside(
    references: dict[str, Hashes],
) -> None:
    for before, inside, after in references.values():
        assert before == after != inside


@pytest.mark.mpi
def test_evaluation_is_collective_in_a_world_of_processes(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        net = OddNet()
        with ParameterManager(
            net,
            OPTIMIZERS["schedule-free"](net),
            comm=comm,
            policy=policy_of(3, grains=comm.size),
        ) as manager:
            for step in range(2):  # after the first both weights are the same
                manager.step(loss_of(net), *share_of(comm, *global_batch(BATCH, step)))
            before = manager.weights_hash()
            with manager.evaluation():
                inside = manager.weights_hash()
            after = manager.weights_hash()
        assert_on_all_ranks(comm, before == after != inside, "not put back")

    on_ranks(body)


def test_other_rules_and_unmoved_weights_evaluate_with_the_weights() -> None:
    def body(comm: Communicator) -> None:
        net = nn.Dense(3, 2)
        with ParameterManager(
            net, optim.EMA(optim.SGD(net.trainable_params())), comm=comm
        ) as manager:
            before = net.weight.asnumpy().copy()
            with manager.evaluation():
                np.testing.assert_array_equal(net.weight.asnumpy(), before)

    run_threads(2, body)


def test_an_optimizer_counts_its_own_steps_beside_one_that_has_taken_some() -> None:
    """Else the average would begin as the third of three, from zeros."""

    def body(comm: Communicator) -> None:
        net = nn.Dense(1, 1, "zeros", "zeros")
        assert net.bias is not None
        used = optim.SGD([net.bias], 1.0)
        for _ in range(2):
            used((nn.Parameter(np.ones(1, np.float32)).value(),))
        ema = optim.EMA(optim.SGD([net.weight], 1.0), 0.5)
        with ParameterManager(net, [used, ema], comm=comm) as manager:
            for _ in range(2):
                manager.update({"weight": np.ones((1, 1), np.float32)})
            with manager.evaluation():
                assert net.weight.item() == -1.5

    run_threads(2, body)


def test_a_step_while_evaluating_is_refused_on_all_ranks() -> None:
    def body(comm: Communicator) -> str:
        net = nn.Dense(3, 2)
        ema = optim.EMA(optim.SGD(net.trainable_params()))
        with ParameterManager(net, ema, comm=comm) as manager:
            gradient = {"weight": np.ones((2, 3), np.float32)}
            manager.update(gradient)
            with (
                manager.evaluation(),
                pytest.raises(
                    RuntimeError,
                    match="no step can be taken",
                ),
            ):
                manager.update(gradient)
            manager.update(gradient)
            return manager.weights_hash()

    assert len(set(run_threads(2, body))) == 1


@pytest.mark.parametrize("average", [False, True])
def test_what_would_damage_the_weights_is_refused_while_evaluating(
    average: bool,
) -> None:
    """Also where the weights to evaluate with are the weights, gathered at level 3."""

    def body(comm: Communicator) -> bool:
        net = make_net()
        optimizer = optim.EMA(adamw(net)) if average else adamw(net)
        policy = policy_of(3, grains=GRAINS, transport="messages")
        with ParameterManager(net, optimizer, comm=comm, policy=policy) as manager:
            batch = share_of(comm, *global_batch(BATCH))
            manager.step(loss_of(net), *batch)
            before = manager.weights_hash()
            with manager.evaluation():
                with manager.evaluation():  # changes nothing
                    inside = [p.asnumpy().copy() for p in net.get_parameters()]
                for what in (manager.replan, manager.close):
                    with pytest.raises(RuntimeError, match="inside of"):
                        what()
                ok = all(
                    np.array_equal(p.asnumpy(), values)
                    for p, values in zip(net.get_parameters(), inside, strict=True)
                )
                with pytest.raises(RuntimeError, match="no step can be taken"):
                    manager.step(loss_of(net), *batch)
            ok &= manager.weights_hash() == before
            manager.step(loss_of(net), *batch)
            return ok

    assert run_threads(2, body) == [True, True]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_evaluated_with_is_saved_and_found_in_another_world(
    name: str, references: dict[str, Hashes], tmp_path: Path
) -> None:
    def make(comm: Communicator, level: int) -> ParameterManager:
        net = OddNet()
        policy = policy_of(level, grains=GRAINS)
        return ParameterManager(net, OPTIMIZERS[name](net), comm=comm, policy=policy)

    def save(comm: Communicator) -> None:
        net = OddNet()
        with ParameterManager(
            net, OPTIMIZERS[name](net), comm=comm, policy=policy_of(2, grains=GRAINS)
        ) as manager:
            for step in range(3):
                manager.step(loss_of(net), *share_of(comm, *global_batch(BATCH, step)))
            with (
                manager.evaluation(),
                pytest.raises(CheckpointNotSaved, match="inside"),
            ):
                manager.save(tmp_path / "never")
            manager.save(tmp_path / "saved")

    def load(comm: Communicator) -> Hashes:
        with make(comm, 1) as manager:
            manager.load(tmp_path / "saved")
            before = manager.weights_hash()
            with manager.evaluation():
                with pytest.raises(RuntimeError, match="no checkpoint can be loaded"):
                    manager.load(tmp_path / "saved")
                inside = manager.weights_hash()
            return before, inside, manager.weights_hash()

    run_threads(4, save)
    assert run_threads(1, load) == [references[name]]


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_body_that_raises_closes_the_manager_of_several_ranks(num_ranks: int) -> None:
    def body(comm: Communicator) -> None:
        net = nn.Dense(3, 2)
        ema = optim.EMA(optim.SGD(net.trainable_params(), 0.5), 0.5)
        manager = ParameterManager(net, ema, comm=comm)
        for _ in range(2):
            manager.update({"weight": np.ones((2, 3), np.float32)})
        before = net.weight.asnumpy().copy()
        with pytest.raises(ZeroDivisionError), manager.evaluation():
            raise ZeroDivisionError
        if num_ranks == 1:
            np.testing.assert_array_equal(net.weight.asnumpy(), before)
            manager.close()
            return
        with pytest.raises(ManagerClosed):
            manager.update({})

    run_threads(num_ranks, body)


def test_an_optimizer_alone_shows_the_average_and_puts_the_weights_back() -> None:
    net = nn.Dense(1, 1, "zeros", "zeros")
    ema = optim.EMA(optim.SGD(net.trainable_params(), 1.0), 0.5)
    one = nn.Parameter(np.ones((1, 1), np.float32)).value()
    for _ in range(3):
        ema((one, one.reshape(1)))  # weights -1, -2, -3; averages -1, -1.5, -2.25
    with ema.evaluation():
        assert net.weight.item() == -2.25
    assert net.weight.item() == -3.0
