"""A plan may change while it is executed: what moves then, and what goes on."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from odd_nets import policy_of
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, make_net, share_of

from parallel_params import optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    PlanError,
)
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.guards import LossScale
from parallel_params.plan.moves import find_moves
from parallel_params.plan.plan import make_plan
from parallel_params.plan.policy import Level, Transport
from parallel_params.tensor.dtype import bfloat16
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def two(value: float = 1.0) -> list[Parameter]:
    """Return two parameters."""
    return [
        Parameter(Tensor(np.full(11, value, np.float32)), name=name) for name in "ab"
    ]


def gradients(comm: Communicator, k: int) -> dict[str, Array]:
    """Return the k-th gradients; rank 0 has more of them."""
    rng = np.random.default_rng(k)
    weight = 2 * comm.size - 1 if comm.rank == 0 else 0.5
    return {name: rng.standard_normal(11) * weight for name in "ab"}


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("num_ranks", [1, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda ps: optim.AdamW(ps, 0.1),
        lambda ps: optim.Lamb(ps, 0.1),
        lambda ps: optim.Momentum(ps, 0.1, 0.9),
    ],
    ids=["adamw", "lamb", "momentum"],
)
def test_what_is_unfrozen_moves_as_if_its_optimizer_were_new(
    make: Callable[[Sequence[Parameter]], optim.Optimizer], num_ranks: int, level: int
) -> None:
    policy = replace(policy_of(level), bucket_bytes=1 << 20)

    def body(comm: Communicator) -> tuple[Array, Array, Array]:
        a, b = two()
        b.requires_grad = False
        manager = ParameterManager([a, b], make([a, b]), policy=policy, comm=comm)
        for k in range(3):
            manager.update({"a": gradients(comm, k)["a"]})
        b.requires_grad = True
        assert manager.replan().started == ("b",)
        for k in range(3, 6):
            manager.update(gradients(comm, k))
        assert manager.num_steps == 6
        b.requires_grad = False
        assert manager.replan().frozen == ("b",)
        manager.update({"a": gradients(comm, 6)["a"]})
        with manager.unsharded():
            return a.asnumpy().copy(), b.asnumpy().copy(), np.arange(11)

    def alone(comm: Communicator, name: str, steps: range) -> Array:
        chosen = [p for p in two() if p.name == name]
        manager = ParameterManager(chosen, make(chosen), policy=policy, comm=comm)
        for k in steps:
            manager.update({name: gradients(comm, k)[name]})
        with manager.unsharded():
            weight: Array = chosen[0].asnumpy().copy()
        return weight

    expected_a = run_threads(num_ranks, lambda c: alone(c, "a", range(7)))[0]
    expected_b = run_threads(num_ranks, lambda c: alone(c, "b", range(3, 6)))[0]
    for found_a, found_b, _ in run_threads(num_ranks, body):
        np.testing.assert_array_equal(found_a, expected_a)
        np.testing.assert_array_equal(found_b, expected_b)


def test_an_optimizer_comes_later_for_what_none_was_given() -> None:
    def body(comm: Communicator) -> None:
        a, b = two()
        b.requires_grad = False
        manager = ParameterManager([a, b], optim.AdamW([a], 0.1), comm=comm)
        for k in range(3):
            manager.update({"a": gradients(comm, k)["a"]})
        b.requires_grad = True
        with pytest.raises(PlanError, match="'b' requires a gradient now, but no opt"):
            manager.replan()
        with pytest.raises(PlanError, match="'a' was given to optimizers 0 and 1"):
            manager.replan(optimizer=optim.SGD([a, b], 1.0))
        warm = optim.AdamW([b], [0.5, 0.25, 0.125])  # its own steps
        manager.replan(optimizer=warm)
        for k in range(3, 5):
            manager.update(gradients(comm, k))
        c, d = two()
        other = ParameterManager([d], optim.AdamW([d], [0.5, 0.25]), comm=comm)
        for k in range(3, 5):
            other.update({"b": gradients(comm, k)["b"]})
        np.testing.assert_array_equal(b.asnumpy(), d.asnumpy())
        assert (b.asnumpy() != c.asnumpy()).all()

    run_threads(2, body)


@pytest.mark.mpi
def test_what_is_announced_is_sent_and_old_windows_go(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        wrong: list[object] = []
        manager = ParameterManager(net, adamw(net), policy=policy_of(3), comm=comm)
        manager.step(loss_of(net), *share_of(comm, *global_batch(2 * comm.size)))
        live = next(net.get_parameters())
        for level, transport in (
            (1, "window"),
            (3, "messages"),
            (0, "messages"),
            (2, "window"),
        ):
            way: Transport = "window" if transport == "window" else "messages"
            before = manager.comm.bytes_sent["all_to_all"]
            announced = find_moves(
                manager.plan,
                make_plan(
                    manager.plan.params,
                    manager.plan.mesh,
                    policy_of(level, transport=way),
                ),
                comm.rank,
            )
            # A view of what is left must not become a trap.
            with manager.unsharded():
                view = live.asnumpy()
            weights = manager.weights_hash()
            moves = manager.replan(policy=policy_of(level, transport=way))
            sent = manager.comm.bytes_sent["all_to_all"] - before
            total = sum(int(text) for text in comm.all_gather_bytes(str(sent).encode()))
            if (sent, total) != (announced.bytes_sent, moves.bytes_moved):
                wrong.append((level, transport, sent, total, str(moves)))
            if manager.weights_hash() != weights:
                wrong.append((level, transport, "other weights"))
            view.sum()
            del view
        assert_on_all_ranks(comm, not wrong, str(wrong))
        manager.close()

    on_ranks(body)


def test_counts_and_the_loss_scale_go_on() -> None:
    net = make_net()
    scaling = LossScale(initial=4.0, interval=2)
    policy = replace(policy_of(1), loss_scale=scaling, non_finite="skip")
    manager = ParameterManager(net, adamw(net), policy=policy)
    x, y = global_batch(4)
    manager.step(loss_of(net), x, y)
    manager.update({"0.weight": np.full((13, 7), np.nan)})
    assert (manager.num_steps, manager.num_skipped, manager.loss_scale) == (1, 1, 2.0)
    manager.step(loss_of(net), x, y)
    manager.replan(policy=replace(policy, level=Level(2)))
    assert (manager.num_steps, manager.num_skipped, manager.loss_scale) == (2, 1, 2.0)
    assert manager.num_absent["1.bias"] == 1
    manager.step(loss_of(net), x, y)
    assert manager.loss_scale == 4.0  # two good steps, one on either side
    manager.replan(policy=replace(policy, loss_scale=64.0))
    assert manager.loss_scale == 64.0


@pytest.mark.parametrize("level", range(4))
def test_a_new_master_weight_starts_from_the_weight(level: int) -> None:
    def body(comm: Communicator) -> None:
        w = Parameter(Tensor(np.linspace(1, 2, 9), bfloat16), name="w")
        start = w.asnumpy().astype(np.float64)
        policy = replace(policy_of(level), master_weights=False)
        manager = ParameterManager([w], optim.SGD([w], 2.0**-10), comm=comm)
        manager.replan(policy=policy)  # the first had one
        manager.replan(policy=policy_of(level))
        for _ in range(2**8):  # each step alone is lost in bfloat16
            manager.update({"w": np.ones(9)})
        with manager.unsharded():
            np.testing.assert_allclose(
                w.asnumpy().astype(np.float64), start - 0.25, rtol=2**-8
            )

    run_threads(2, body)


def test_a_value_of_all_may_become_each_ranks_own_but_not_back() -> None:
    def body(comm: Communicator) -> None:
        a, b = two()
        manager = ParameterManager(
            [a, b], optim.Momentum([a, b], 0.5, 0.5), comm=comm, policy=policy_of(1)
        )
        manager.update({"a": np.ones(11), "b": np.ones(11)})
        a.layerwise_parallel = True
        manager.replan()
        gradient = np.full(11, float(comm.rank))
        manager.update({"a": gradient, "b": gradient})
        # From 1: 0.5 * 1, then 0.5 * (0.5 * 1 + g): the momentum has come along.
        own = 0.5 - 0.5 * (0.5 + comm.rank)
        assert (a.asnumpy() == own).all()
        assert (b.asnumpy() == 0.5 - 0.5 * (0.5 + 0.5)).all()
        a.layerwise_parallel = False
        with pytest.raises(PlanError, match="'a' has 2 different slices in the old"):
            manager.replan()
        a.layerwise_parallel = True
        manager.update({})

    run_threads(2, body)


def test_a_plan_that_stays_moves_nothing() -> None:
    net = make_net()
    manager = ParameterManager(net, adamw(net), policy=policy_of(2))
    moves = manager.replan()
    assert moves.bytes_moved == 0
    assert manager.plan is not None
    assert str(moves).count("\n") == 2


def test_a_report_says_what_was_frozen_and_what_that_freed() -> None:
    a, b = two()
    manager = ParameterManager([a, b], optim.AdamW([a, b], 0.1), policy=policy_of(1))
    b.requires_grad = False
    text = str(manager.replan())
    assert "1 parameter frozen: b; rank 0 dropped 88 B of state" in text
    b.requires_grad = True
    text = str(manager.replan())
    assert "1 parameter trained from now on: b; the state starts from zero" in text


def test_a_copy_of_a_managed_parameter_is_nobodys() -> None:
    def body(comm: Communicator) -> None:
        a, b = two()
        manager = ParameterManager(
            [a, b], optim.AdamW([a, b], 0.1), policy=policy_of(1), comm=comm
        )
        twin = copy.copy(a)
        twin.set_data(Tensor(np.zeros(11, np.float32)))
        twin.requires_grad = False
        comm.barrier()
        assert (a.asnumpy() == 1).all()
        manager.update({})

    run_threads(2, body)
