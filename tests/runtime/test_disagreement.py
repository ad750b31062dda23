"""Ranks that do not do the same: one error on all ranks instead of other weights."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from ranked import OnRanks, assert_on_all_ranks
from small_nets import CLASSES, INPUTS, adamw, global_batch, loss_of, make_net, share_of

from parallel_params import nn, optim
from parallel_params.comm.local import solo
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CommunicationError,
    ManagerClosed,
    PlanMismatch,
    RankFailed,
)
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.dtype import DType, bfloat16, float32
from parallel_params.tensor.initializer import initializer, lazy_init
from parallel_params.tensor.laws import Zero
from parallel_params.tensor.random import Stream
from parallel_params.tensor.tensor import Tensor

Params = list[Parameter]
FACTORIES: dict[str, Callable[[Params, bool], Optimizer]] = {
    "weight_decay": lambda p, odd: optim.AdamW(p, 0.1, weight_decay=0.1 * odd),
    "beta1": lambda p, odd: optim.AdamW(p, 0.1, beta1=0.8 if odd else 0.9),
    "momentum": lambda p, odd: optim.SGD(p, 0.1, momentum=0.5 if odd else 0.9),
    "loss_scale": lambda p, odd: optim.SGD(p, 0.1, loss_scale=1.0 + odd),
    "group": lambda p, odd: optim.SGD(
        [{"params": p[: 1 + odd]}, {"params": p[1 + odd :], "lr": 0.3}], 0.1
    ),
    "steps taken": lambda p, odd: stepped(p, 1.0 + odd, num_steps=1 + odd),
    "accum": lambda p, odd: stepped(p, 1.0 + odd, num_steps=1),
}


def stepped(params: Params, gradient: float, *, num_steps: int) -> Optimizer:
    """Return an optimizer that has taken steps on its own, and its state with them."""
    optimizer = optim.SGD(params, 0.1, momentum=0.9)
    gradients = tuple(Tensor(np.full(p.shape, gradient, np.float32)) for p in params)
    for _ in range(num_steps):
        optimizer(gradients)
    return optimizer


def judge(comm: Communicator, attempt: Callable[[], object], *words: str) -> None:
    """Fail on all ranks unless `attempt` is a mismatch with these words on each."""
    found = "nothing was raised"
    try:
        attempt()
    except PlanMismatch as raised:
        found = str(raised)
    missing = [word for word in words if word not in found]
    assert_on_all_ranks(comm, not missing, f"{missing} not in {found!r}")


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("setting", FACTORIES)
def test_another_optimizer_on_one_rank_is_not_trained_silently(
    on_ranks: OnRanks, setting: str
) -> None:
    def body(comm: Communicator) -> None:
        if comm.size == 1:
            return
        net = make_net()
        is_odd = comm.rank == comm.size - 1
        optimizer = FACTORIES[setting](net.trainable_params(), is_odd)
        judge(
            comm, lambda: ParameterManager(net, optimizer, comm=comm), setting, "rank"
        )

    on_ranks(body)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("kind", ["number", "list", "schedule"])
def test_another_learning_rate_on_one_rank_is_not_trained_silently(
    on_ranks: OnRanks, kind: str
) -> None:
    def body(comm: Communicator) -> None:
        if comm.size == 1:
            return
        net = make_net()
        own = 0.3 if comm.rank == comm.size - 1 else 0.1
        rates = {
            "number": own,
            "list": [own, 0.1],
            "schedule": lambda step: own,
        }
        optimizer = optim.SGD(net.trainable_params(), rates[kind])  # type: ignore[arg-type]
        manager = ParameterManager(net, optimizer, comm=comm)
        before = manager.weights_hash()
        batch = share_of(comm, *global_batch(comm.size))
        judge(comm, lambda: manager.step(loss_of(net), *batch), "learning rates [0.3]")
        assert_on_all_ranks(comm, manager.weights_hash() == before, "weights changed")

    on_ranks(body)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("call", ["value_and_grad", "update"])
def test_ranks_in_different_calls_do_not_hang(on_ranks: OnRanks, call: str) -> None:
    def body(comm: Communicator) -> None:
        if comm.size == 1:
            return
        net = make_net()
        manager = ParameterManager(net, adamw(net), comm=comm)
        batch = share_of(comm, *global_batch(comm.size))

        def attempt() -> None:
            if comm.rank == comm.size - 1 and call == "update":
                manager.update({})
            elif comm.rank == comm.size - 1:
                manager.value_and_grad(loss_of(net), *batch)
            else:
                manager.step(loss_of(net), *batch)

        judge(comm, attempt, f"manager.{call}(...)", "manager.step(...)")

    on_ranks(body)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("is_one", [False, True])
def test_values_of_one_rank_are_not_written(
    on_ranks: OnRanks, level: int, is_one: bool
) -> None:
    def body(comm: Communicator) -> None:
        if comm.size == 1:
            return
        net = make_net()
        policy = Policy(level=Level(level), shard_threshold_bytes=0)
        manager = ParameterManager(net, adamw(net), policy=policy, comm=comm)
        before = manager.weights_hash()
        weight = net.trainable_params()[0]
        is_odd = comm.rank == comm.size - 1
        values = Tensor(np.full(weight.shape, 1 + is_odd, np.float32))

        def attempt() -> None:
            if is_odd or not is_one:
                weight.set_data(values)
            else:
                manager.step(loss_of(net), *share_of(comm, *global_batch(comm.size)))

        odd = "manager.step(...)" if is_one else f"rank {comm.size - 1}"
        judge(comm, attempt, f"set_data of {weight.name!r}", odd)
        after = manager.weights_hash()
        assert_on_all_ranks(comm, after == before, "weights changed")

    on_ranks(body)


@pytest.mark.mpi
@pytest.mark.parametrize("dtype", [float32, bfloat16])
def test_elements_are_written_by_the_rule_of_owners(
    on_ranks: OnRanks, dtype: DType
) -> None:
    def body(comm: Communicator) -> None:
        net = nn.Dense(INPUTS, CLASSES)
        net.weight = Parameter(Tensor(np.zeros(net.weight.shape), dtype))
        policy = Policy(level=Level.STATE, shard_threshold_bytes=0, alignment=1)
        optimizer = optim.SGD(net.trainable_params(), 0.0)
        manager = ParameterManager(net, optimizer, policy=policy, comm=comm)
        net.weight[1] = 7.0
        # A step rounds weights of 16 bits from their masters, which have to know.
        manager.update({})
        is_there = bool((net.weight.asnumpy()[1].astype(float) == 7.0).all())
        assert_on_all_ranks(comm, is_there, str(net.weight.asnumpy()))

        def attempt() -> None:
            net.weight[2] = float(comm.rank == comm.size - 1)

        if comm.size > 1:
            odd = f"rank {comm.size - 1}"
            judge(comm, attempt, f"set_data of {net.weight.name!r}", odd)
        is_there = not net.weight.asnumpy()[2].any()
        assert_on_all_ranks(comm, comm.size == 1 or is_there, "written")

    on_ranks(body)


@pytest.mark.mpi
def test_a_schedule_that_raises_on_one_rank_changes_no_weight(
    on_ranks: OnRanks,
) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()

        def rate(step: int) -> float:
            if comm.rank == comm.size - 1:
                raise ZeroDivisionError("no warm-up")
            return 0.1

        optimizer = optim.SGD(net.trainable_params(), rate)
        manager = ParameterManager(net, optimizer, comm=comm)
        before = manager.weights_hash()
        found = "nothing"
        try:
            manager.step(loss_of(net), *share_of(comm, *global_batch(comm.size)))
        except (RankFailed, ZeroDivisionError) as raised:
            found = str(raised)
        ok = "no warm-up" in found and manager.weights_hash() == before
        assert_on_all_ranks(comm, ok, found)

    on_ranks(body)


class Unhappy(Zero):
    """Zeros, for which there is no room."""

    def values(
        self, shape: tuple[int, ...], start: int, stop: int, stream: Stream | None
    ) -> NDArray[np.float64]:
        raise MemoryError("no room")


@pytest.mark.mpi
def test_a_rank_without_memory_for_its_part_fails_on_all(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        law = Unhappy() if comm.rank == comm.size - 1 else Zero()
        first = Parameter(Tensor(np.ones(3, np.float32)), name="first")
        with lazy_init():
            w = Parameter(initializer(law, (4,)), name="w")
        found = "nothing"
        try:
            ParameterManager([first, w], optim.SGD([first, w], 0.1), comm=comm)
        except (RankFailed, MemoryError) as raised:
            found = str(raised)
        # And nothing is held: the next manager can have the first parameter.
        ParameterManager([first], optim.SGD([first], 0.1), comm=comm)
        assert_on_all_ranks(comm, "no room" in found, found)

    on_ranks(body)


@pytest.mark.mpi
def test_no_optimizer_on_one_rank_is_an_error_on_all(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        optimizer = None if comm.rank == comm.size - 1 else adamw(net)
        found = "nothing"
        try:
            ParameterManager(net, optimizer, comm=comm)  # type: ignore[arg-type]
        except (RankFailed, TypeError) as raised:
            found = str(raised)
        assert_on_all_ranks(comm, "not NoneType" in found, found)

    on_ranks(body)


@pytest.mark.mpi
def test_a_closed_manager_says_so_and_closes_twice(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        manager = ParameterManager(net, adamw(net), comm=comm)
        manager.close()
        manager.close()
        found = ""
        try:
            manager.step(loss_of(net), *share_of(comm, *global_batch(comm.size)))
        except ManagerClosed as raised:
            found = str(raised)
        assert_on_all_ranks(comm, "closed" in found, found)

    on_ranks(body)


def test_an_error_inside_with_lets_go_of_the_parameters() -> None:
    net = make_net()
    with (
        pytest.raises(ZeroDivisionError),
        ParameterManager(net, adamw(net)),
    ):
        raise ZeroDivisionError
    with ParameterManager(net, adamw(net)) as manager:
        assert manager.num_steps == 0


def test_a_manager_frees_the_communicator_that_it_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = solo()
    monkeypatch.setattr("parallel_params.manager.init", lambda: opened)
    net = make_net()
    with ParameterManager(net, adamw(net)):
        opened.barrier()
    with pytest.raises(CommunicationError, match="closed"):
        opened.barrier()
