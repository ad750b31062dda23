"""One set of kernels on all ranks from the start to the end, with the same bits."""

import threading
from functools import partial
from itertools import product

import pytest
from kernel_sets import kernels_as
from odd_nets import OPTIMIZERS, OddNet, policy_of
from ranked import assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, make_net, share_of

from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import KernelsChanged, PlanMismatch, RankFailed
from parallel_params.manager import ParameterManager
from parallel_params.plan.mesh import Mesh
from parallel_params.runtime import start
from parallel_params.tensor.kernel_set import KernelSet, set_kernels

BATCH = GRAINS = 4


def train(comm: Communicator, name: str, level: int) -> tuple[str, float]:
    """Take three steps on an `OddNet`; return the hash and the last loss."""
    net = OddNet()
    with ParameterManager(
        net,
        OPTIMIZERS[name](net),
        comm=comm,
        policy=policy_of(level, grains=GRAINS),
        mesh=Mesh(data=comm.size),
    ) as manager:
        for step in range(3):
            batch = share_of(comm, *global_batch(BATCH, step))
            loss = float(manager.step(loss_of(net), *batch))
        return manager.weights_hash(), loss


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fast_kernels_have_one_set_of_bits_on_any_world_and_level(name: str) -> None:
    with kernels_as("fast"):
        outcomes: set[tuple[str, float]] = set()
        for size, level in product((1, 2, 4), range(4)):
            body = partial(train, name=name, level=level)
            outcomes |= set(run_threads(size, body))
    assert len(outcomes) == 1


def test_ranks_with_other_kernels_are_named_on_all_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = threading.local()
    monkeypatch.setattr(start, "kernel_set", lambda: own.chosen)

    def body(comm: Communicator) -> None:
        is_odd = comm.rank == 1
        own.chosen = (
            KernelSet(name="fast", compiler="numba 1") if is_odd else KernelSet()
        )
        net = make_net()
        with pytest.raises(PlanMismatch) as caught:
            ParameterManager(net, adamw(net), comm=comm)
        text = str(caught.value)
        is_named = "ranks [1]" in text and "fast (numba 1)" in text and "numpy" in text
        assert_on_all_ranks(comm, is_named, text)

    run_threads(3, body)


@pytest.mark.parametrize("size", [1, 2])
def test_a_manager_takes_no_step_with_other_kernels_than_it_began_with(
    size: int,
) -> None:
    def body(comm: Communicator) -> str:
        net = make_net()
        manager = ParameterManager(net, adamw(net), comm=comm)
        before = manager.weights_hash()
        comm.barrier()
        set_kernels("fast")
        with pytest.raises((KernelsChanged, RankFailed), match="set_kernels"):
            manager.step(loss_of(net), *share_of(comm, *global_batch(4)))
        comm.barrier()
        set_kernels("numpy")
        is_same = manager.weights_hash() == before
        manager.step(loss_of(net), *share_of(comm, *global_batch(4)))
        return "same" if is_same else "changed"

    with kernels_as("fast"):
        set_kernels("numpy")
        assert run_threads(size, body) == ["same"] * size
