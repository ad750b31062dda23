"""Where nothing is decided about gradients, their sum and the update are one pass."""

from dataclasses import replace
from functools import partial
from itertools import product

import pytest
from kernel_sets import kernels_as
from odd_nets import OddNet, policy_of
from ranked import OnRanks, assert_on_all_ranks
from small_nets import OptimizerFactory, adamw, global_batch, loss_of, share_of

from parallel_params import optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.plan.policy import NonFinite
from parallel_params.runtime import stepper
from parallel_params.runtime.summing import RowSum
from parallel_params.tensor.kernel_set import Choice

BATCH = 4
WORLDS = (1, 0), (2, 1), (4, 1), (2, 2)  # ranks, level
WAYS: tuple[NonFinite, ...] = ("ignore", "raise")


def train(
    comm: Communicator,
    non_finite: NonFinite,
    *,
    level: int = 1,
    has_accumulated: bool = False,
    grains: int = BATCH,
    optimizer_of: OptimizerFactory = adamw,
) -> str:
    """Take steps on a net of everything; return the weights' hash."""
    net = OddNet()
    policy = replace(policy_of(level, grains=grains), non_finite=non_finite)
    with ParameterManager(net, optimizer_of(net), comm=comm, policy=policy) as manager:
        for step in range(3):
            if has_accumulated:
                batch = share_of(comm, *global_batch(BATCH, 10 + step))
                manager.accumulate(loss_of(net), *batch)
            manager.step(loss_of(net), *share_of(comm, *global_batch(BATCH, step)))
        return manager.weights_hash()


@pytest.mark.parametrize("has_accumulated", [False, True])
@pytest.mark.parametrize("kernels", ["numpy", "fast"])
def test_adding_while_updating_changes_no_bit(
    kernels: Choice, has_accumulated: bool
) -> None:
    with kernels_as(kernels):
        hashes = set()
        for (size, level), way in product(WORLDS, WAYS):
            body = partial(train, non_finite=way, level=level)
            hashes |= set(
                run_threads(size, partial(body, has_accumulated=has_accumulated))
            )
    assert len(hashes) == 1


# Rules that do not add by themselves.
OTHERS: dict[str, OptimizerFactory] = {
    "sgd": lambda net: optim.SGD(net.trainable_params(), 0.1),
    "momentum": lambda net: optim.Momentum(net.trainable_params(), 0.1, 0.9),
    "lion": lambda net: optim.Lion(net.trainable_params(), 0.01, weight_decay=0.1),
    "rmsprop": lambda net: optim.RMSProp(net.trainable_params(), 0.01),
    "adagrad": lambda net: optim.Adagrad(net.trainable_params(), 0.1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_elementwise_rule_finds_the_sum_block_by_block(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(stepper, "BLOCK", 5)
    body = partial(train, optimizer_of=OTHERS[name])
    hashes = {
        each
        for (size, level), way in product(WORLDS[:3], WAYS)
        for each in run_threads(size, partial(body, non_finite=way, level=level))
    }
    assert len(hashes) == 1
    sums: list[RowSum] = []
    monkeypatch.setattr(RowSum, "run", lambda self, *, is_watched: sums.append(self))
    run_threads(2, lambda comm: body(comm, "ignore"))
    assert not sums


@pytest.mark.parametrize(("way", "is_one"), [("ignore", True), ("raise", False)])
def test_a_sum_that_nobody_judges_is_not_stored(
    monkeypatch: pytest.MonkeyPatch, way: NonFinite, is_one: bool
) -> None:
    sums = []
    monkeypatch.setattr(RowSum, "run", lambda self, *, is_watched: sums.append(self))
    run_threads(2, lambda comm: train(comm, way))
    assert (not sums) == is_one


@pytest.mark.mpi
def test_processes_add_while_updating(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        one, two = (train(comm, way, grains=comm.size) for way in WAYS)
        assert_on_all_ranks(comm, one == two, f"{one} {two}")

    on_ranks(body)
