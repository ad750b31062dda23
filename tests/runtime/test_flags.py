"""What the flags of a parameter do at run time."""

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks

from parallel_params import optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanError, PlanOutdated
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.tensor import Tensor

# MindSpore's live two-rank job: loss = sum(a x) + sum(l x) + sum(f x), Momentum with
# rate 1 and 0.9, mean over ranks, start values broadcast. Step -> (a, l, f) per rank.
GOLDEN = {
    1: [(-0.5, 9.0, 1.0), (-0.5, 18.0, 1.0)],
    2: [(-3.35, 7.1, 1.0), (-3.35, 14.2, 1.0)],
    4: [(-12.5735, 0.951, 1.0), (-12.5735, 1.902, 1.0)],
}
ROUNDING = 1e-5  # float32, four steps


def parameter(name: str, value: float, **flags: bool) -> Parameter:
    """Return a parameter of one element."""
    return Parameter(Tensor(np.array([value], np.float32)), name=name, **flags)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("num_steps", GOLDEN)
def test_layerwise_and_frozen_parameters_follow_mindspore(
    num_steps: int, level: int
) -> None:
    def body(comm: Communicator) -> tuple[float, ...]:
        x = np.full((1, 1), comm.rank + 1, np.float32)
        a = parameter("a", comm.rank + 1)
        own = parameter("l", 10.0 * (comm.rank + 1), layerwise_parallel=True)
        frozen = parameter("f", comm.rank + 1, requires_grad=False)
        manager = ParameterManager(
            [a, own, frozen],
            optim.Momentum([a, own], 1.0, 0.9),
            policy=Policy(level=Level(level)),
            comm=comm,
        )
        for _ in range(num_steps):
            manager.step(lambda x: ((a + own + frozen) * x).sum(), x)
        return tuple(float(p.asnumpy()[0]) for p in (a, own, frozen))

    found = run_threads(2, body)
    assert np.allclose(found, GOLDEN[num_steps], atol=ROUNDING), found


@pytest.mark.mpi
def test_only_what_differs_at_the_start_is_replaced(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        same = parameter("same", 1.0)
        other = parameter("other", float(comm.rank))
        own = parameter("own", float(comm.rank), layerwise_parallel=True)
        manager = ParameterManager(
            [same, other, own], optim.SGD([same, other, own], 0.1), comm=comm
        )
        values = [float(p.asnumpy()[0]) for p in (same, other, own)]
        expected = ("other",) if comm.size > 1 else ()
        ok = values == [1.0, 0.0, comm.rank] and manager.start_differences == expected
        assert_on_all_ranks(comm, ok, f"{values}, {manager.start_differences}")

    on_ranks(body)


def test_a_whole_parameter_has_its_state_on_every_rank() -> None:
    def body(comm: Communicator) -> dict[str, int]:
        cut = Parameter(Tensor(np.zeros(256, np.float32)), name="cut")
        whole = Parameter(
            Tensor(np.zeros(256, np.float32)), name="whole", parallel_optimizer=False
        )
        manager = ParameterManager(
            [cut, whole],
            optim.AdamW([cut, whole], 0.1),
            policy=Policy(shard_threshold_bytes=0, alignment=64),
            comm=comm,
        )
        return {
            arena.bucket.extents[0].name: sum(s.size for s in arena.state.values())
            for arena in manager._open.arenas
        }

    assert run_threads(2, body) == [{"cut": 256, "whole": 512}] * 2


def test_the_arena_is_the_storage_of_its_parameters() -> None:
    w = Parameter(Tensor(np.arange(6, dtype=np.float32).reshape(2, 3)), name="w")
    manager = ParameterManager([w], optim.SGD([w], 1.0))
    address = w.asnumpy().ctypes.data
    w.set_data(Tensor(np.ones((2, 3), np.float32)))
    manager.update({"w": np.ones((2, 3), np.float32)})
    assert w.asnumpy().ctypes.data == address
    assert (w.asnumpy() == 0).all()


def test_a_mesh_reduces_a_layerwise_parameter_along_its_other_axis() -> None:
    def body(comm: Communicator) -> tuple[float, float]:
        w = parameter("w", 0.0)
        own = parameter("own", 0.0, layerwise_parallel=True)
        manager = ParameterManager(
            [w, own],
            optim.SGD([w, own], 1.0),
            mesh=Mesh(data=2, model=2),
            policy=Policy(shard_threshold_bytes=0, alignment=1),
            comm=comm,
        )
        gradient = np.array([comm.rank], np.float32)
        manager.update({"w": gradient, "own": gradient})
        manager.close()
        return float(w.asnumpy()[0]), float(own.asnumpy()[0])

    # Ranks 0 and 2 hold one slice of `own`, ranks 1 and 3 the other.
    assert run_threads(4, body) == [(-1.5, -1.0), (-1.5, -2.0)] * 2


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("requires_grad", False),
        ("layerwise_parallel", True),
        ("parallel_optimizer", False),
        ("comm_fusion", 3),
    ],
)
def test_a_flag_that_the_plan_does_not_know_is_no_silent_no_op(
    flag: str, value: object
) -> None:
    w = parameter("w", 0.0)
    manager = ParameterManager([w], optim.SGD([w], 1.0))
    before = getattr(w, flag)
    setattr(w, flag, value)
    with pytest.raises(PlanOutdated, match=f"{flag} of parameter 'w' is {value} now"):
        manager.update({"w": np.ones(1)})
    assert w.asnumpy() == 0
    setattr(w, flag, before)
    manager.update({"w": np.ones(1)})
    assert w.asnumpy() == -1
    manager.close()
    setattr(w, flag, value)
    assert getattr(w, flag) == value


def test_a_parameter_has_one_manager_at_a_time() -> None:
    w = parameter("w", 0.0)
    manager = ParameterManager([w], optim.SGD([w], 1.0))
    with pytest.raises(PlanError, match="'w' lives in the arena of another"):
        ParameterManager([w], optim.SGD([w], 1.0))
    manager.close()
    ParameterManager([w], optim.SGD([w], 1.0)).update({"w": np.ones(1)})
    assert w.asnumpy() == -1
