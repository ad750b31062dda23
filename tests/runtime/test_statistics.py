"""Statistics under a manager: the same bits everywhere, moved if the step is taken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, share_of

from parallel_params import nn, ops, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import NonFiniteGradient, PlanError
from parallel_params.manager import ParameterManager
from parallel_params.plan.guards import LossScale
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.tensor import Tensor
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tape import Array

GRAINS = 4
CHANNELS, CLASSES = 5, 3


def make_net() -> nn.Cell:
    """Return a net with two batch normalisations, training."""
    set_seed(3)
    return nn.SequentialCell(
        nn.Conv2d(2, CHANNELS, 3),
        nn.BatchNorm2d(CHANNELS, momentum=0.5),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Dense(4 * CHANNELS, CLASSES),
        nn.BatchNorm1d(CLASSES),
    ).set_train()


def images(size: int, step: int = 0) -> tuple[Array, Array]:
    """Return samples and labels, a function of the step."""
    rng = np.random.default_rng(step)
    return (
        rng.standard_normal((size, 2, 4, 4), np.float32),
        rng.integers(0, CLASSES, size),
    )


def loss_of(net: nn.Cell) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean cross-entropy of a net."""
    return lambda x, y: ops.cross_entropy(net(x), y)


def policy_of(level: int, **choices: Any) -> Policy:
    """Return a policy that shards everything, however small."""
    return Policy(
        level=Level(level),
        grains=GRAINS,
        shard_threshold_bytes=0,
        alignment=1,
        **choices,
    )


def statistics_of(net: nn.Cell) -> list[list[float]]:
    """Return the values of all statistics."""
    return [p.tolist() for p in net.get_parameters() if isinstance(p, nn.Statistic)]  # type: ignore[misc]


def train(
    comm: Communicator, policy: Policy, *, batch: int = 16, mesh: Mesh | None = None
) -> tuple[str, list[list[float]]]:
    """Train three steps; return the hash of all parameters, and the statistics."""
    net = make_net()
    manager = ParameterManager(net, adamw(net), policy=policy, comm=comm, mesh=mesh)
    for step in range(3):
        arrays = images(batch, step)
        mine = manager.share(batch)
        manager.step(loss_of(net), *(array[mine] for array in arrays))
    bits = manager.weights_hash()
    with manager.unsharded():
        return bits, statistics_of(net)


@pytest.fixture(scope="module")
def reference() -> tuple[str, list[list[float]]]:
    """Train on one rank at level 0."""
    return run_threads(1, lambda comm: train(comm, policy_of(0)))[0]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("num_ranks", [1, 2, 4])
@pytest.mark.parametrize("transport", ["window", "messages"])
def test_weights_and_statistics_have_the_bits_of_one_rank(
    reference: tuple[str, list[list[float]]],
    num_ranks: int,
    level: int,
    transport: str,
) -> None:
    policy = policy_of(level, transport=transport)
    found = run_threads(num_ranks, lambda comm: train(comm, policy))
    assert found == [reference] * num_ranks


@pytest.mark.parametrize("level", [0, 3])
def test_ranks_on_several_nodes_have_the_same_statistics(
    reference: tuple[str, list[list[float]]], level: int
) -> None:
    mesh = Mesh(data=4, ranks_per_node=2)
    found = run_threads(4, lambda comm: train(comm, policy_of(level), mesh=mesh))
    assert found == [reference] * 4


@pytest.mark.mpi
def test_processes_have_the_statistics_of_one_thread(
    on_ranks: OnRanks, reference: tuple[str, list[list[float]]]
) -> None:
    def body(comm: Communicator) -> None:
        if GRAINS % comm.size:
            return
        found = [
            train(comm, policy_of(level, transport=transport))
            for level in (0, 3)
            for transport in ("auto", "messages")
        ]
        ok = all(each == reference for each in found)
        assert_on_all_ranks(comm, ok, f"{found} are not all {reference}")

    on_ranks(body)


def test_grains_without_samples_do_not_change_a_bit() -> None:
    """Three samples are grains of 0, 1, 1 and 1."""

    def body(comm: Communicator) -> list[list[float]]:
        norm = nn.BatchNorm2d(2).set_train()
        optimizer = optim.SGD(norm.trainable_params(), 0.1)
        manager = ParameterManager(norm, optimizer, policy=policy_of(0), comm=comm)
        x, _ = images(3)
        manager.step(lambda x: norm(x).square().mean(), x[manager.share(3)])
        return statistics_of(norm)

    (alone,) = run_threads(1, body)
    assert run_threads(2, body) == [alone] * 2
    assert run_threads(4, body) == [alone] * 4


def test_a_statistic_follows_the_mean_over_the_grains() -> None:
    net = make_net()
    manager = ParameterManager(net, adamw(net), policy=policy_of(0))
    x, y = images(16)
    convolved = net[0](Tensor(x)).asnumpy().astype(np.float64)  # type: ignore[index]
    manager.step(loss_of(net), x, y)
    grains = convolved.reshape(GRAINS, 4, CHANNELS, -1).swapaxes(1, 2)
    grains = grains.reshape(GRAINS, CHANNELS, -1)
    norm = net[1]  # type: ignore[index]
    np.testing.assert_allclose(
        norm.moving_mean.asnumpy(), 0.5 * grains.mean((0, 2)), atol=1e-6
    )
    want = 0.5 + 0.5 * grains.var(2, ddof=1).mean(0)
    np.testing.assert_allclose(norm.moving_variance.asnumpy(), want, rtol=1e-5)


def test_one_grain_moves_what_plain_training_moves() -> None:
    x, y = images(16)
    alone = make_net()
    loss_of(alone)(Tensor(x), Tensor(y))
    net = make_net()
    manager = ParameterManager(net, adamw(net), policy=Policy(grains=1))
    manager.step(loss_of(net), x, y)
    assert statistics_of(net) == statistics_of(alone)


def test_statistics_are_told_as_announced(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        policy = Policy(level=Level(1), shard_threshold_bytes=0, transport="messages")
        manager = ParameterManager(net, adamw(net), policy=policy, comm=comm)
        before = manager.comm.bytes_sent.copy()
        manager.step(loss_of(net), *share_of(comm, *images(4 * comm.size)))
        sent = sum(manager.comm.bytes_sent.values()) - sum(before.values())
        announced = sum(c.bytes_sent for c in manager.plan.collectives(comm.rank))
        assert_on_all_ranks(comm, sent == announced, f"{sent} and not {announced}")

    on_ranks(body)


# ---- when they move, and when not


def _managed(**choices: Any) -> tuple[nn.Cell, ParameterManager]:
    net = make_net()
    return net, ParameterManager(net, adamw(net), policy=policy_of(0, **choices))


def test_accumulated_batches_move_statistics_once_with_the_step() -> None:
    net, manager = _managed()
    before = statistics_of(net)
    x, y = images(32)
    manager.accumulate(loss_of(net), x[:16], y[:16])
    assert statistics_of(net) == before
    manager.step(loss_of(net), x[16:], y[16:])
    other = make_net()
    whole = ParameterManager(other, adamw(other), policy=Policy(grains=2 * GRAINS))
    whole.step(loss_of(other), x, y)
    np.testing.assert_allclose(
        np.concatenate(statistics_of(net)),
        np.concatenate(statistics_of(other)),
        rtol=1e-6,
    )


def test_a_step_that_is_not_taken_moves_no_statistic() -> None:
    x, y = images(16)
    x[0, 0, 0, 0] = np.inf
    net, manager = _managed()
    before = statistics_of(net)
    with pytest.warns(RuntimeWarning), pytest.raises(NonFiniteGradient):
        manager.step(loss_of(net), x, y)
    assert statistics_of(net) == before
    net, manager = _managed(loss_scale=LossScale(), non_finite="skip")
    with pytest.warns(RuntimeWarning):
        manager.step(loss_of(net), x, y)
    assert manager.num_skipped == 1
    assert statistics_of(net) == before
    manager.step(loss_of(net), *images(16))
    assert np.isfinite(np.concatenate(statistics_of(net))).all()


def test_a_failed_step_leaves_nothing_behind() -> None:
    net, manager = _managed()
    clean_net, clean = _managed()

    def fails(x: Tensor, y: Tensor) -> Tensor:
        net(x)
        raise KeyError("after the forward pass")

    with pytest.raises(KeyError):
        manager.step(fails, *images(16, 1))
    for each, its_net in ((manager, net), (clean, clean_net)):
        each.step(loss_of(its_net), *images(16))
    assert statistics_of(net) == statistics_of(clean_net)


def test_value_and_grad_moves_statistics_with_the_update_that_follows() -> None:
    net, manager = _managed()
    before = statistics_of(net)
    _, gradients = manager.value_and_grad(loss_of(net), *images(16))
    assert statistics_of(net) == before
    manager.update(gradients)
    stepped_net, stepped = _managed()
    stepped.step(loss_of(stepped_net), *images(16))
    assert statistics_of(net) == statistics_of(stepped_net)
    moved = statistics_of(net)
    manager.update(gradients)
    assert statistics_of(net) == moved, "its observations are used up"


def test_a_forward_pass_outside_of_a_step_moves_nothing() -> None:
    net, manager = _managed()
    before = statistics_of(net)
    net(Tensor(images(16)[0]))
    assert statistics_of(net) == before
    manager.close()
    net(Tensor(images(16)[0]))
    assert statistics_of(net) != before


def test_a_statistic_that_the_manager_does_not_know_is_refused() -> None:
    net = make_net()
    manager = ParameterManager(net.trainable_params(), adamw(net))
    with pytest.raises(RuntimeError, match=r"'1.moving_mean' follows .* make it of"):
        manager.step(loss_of(net), *images(16))


def test_a_ranks_own_statistics_follow_its_own_grains() -> None:
    def body(comm: Communicator) -> list[float]:
        norm = nn.BatchNorm1d(2, momentum=0.0).set_train()
        for parameter in norm.get_parameters():
            parameter.layerwise_parallel = True
        optimizer = optim.SGD(norm.trainable_params(), 0.1)
        manager = ParameterManager(norm, optimizer, comm=comm)
        x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32) * (1 + comm.rank)
        manager.step(lambda x: norm(x).sum(), x)
        mean: list[float] = norm.moving_mean.tolist()  # type: ignore[assignment]
        return mean

    assert run_threads(2, body) == [[2.0, 3.0], [4.0, 6.0]]


def test_a_statistic_is_not_trained() -> None:
    with pytest.raises(PlanError, match="a statistic is not trained"):
        ParamSpec("mean", (3,), is_statistic=True)


def test_the_plan_says_what_a_statistic_follows() -> None:
    _, manager = _managed()
    said = manager.plan.explain("1.moving_mean")
    assert "follows what the grains observe" in said
