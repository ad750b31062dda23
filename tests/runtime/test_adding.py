"""Where nothing is decided about gradients, their sum and the update are one pass."""

from dataclasses import replace
from functools import partial
from itertools import product

import pytest
from kernel_sets import kernels_as
from odd_nets import OddNet, policy_of
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, share_of

from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.plan.policy import NonFinite
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
) -> str:
    """Take steps on a net of everything; return the weights' hash."""
    net = OddNet()
    policy = replace(policy_of(level, grains=grains), non_finite=non_finite)
    with ParameterManager(net, adamw(net), comm=comm, policy=policy) as manager:
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
