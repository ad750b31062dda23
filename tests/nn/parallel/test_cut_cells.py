"""Cells that are cut along an axis do what their twins on one rank do."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from ranked import OnRanks, assert_on_all_ranks

from parallel_params import nn, ops, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanMismatch, RankFailed
from parallel_params.manager import ParameterManager
from parallel_params.nn import parallel
from parallel_params.nn.parallel import Axis, open_axis
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor import float64
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tensor import Tensor

ROUNDING = 1e-12  # float64; sums along the axis are added in another order

# Every mesh of up to 8 ranks whose model axis divides the sizes below.
MESHES = [
    Mesh(data=data, model=model)
    for data in (1, 2, 3, 4, 8)
    for model in (1, 2, 4, 8)
    if data * model <= 8
]
BATCH, INPUTS, HIDDEN, CLASSES, VOCABULARY = 24, 5, 16, 8, 16


class Net(nn.Cell):
    """Tokens to classes: every kind of cut cell but the experts."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        self.axis_of_model = axis
        self.table = parallel.VocabParallelEmbedding(
            VOCABULARY, INPUTS, dtype=float64, axis=axis
        )
        self.up = parallel.ColumnParallelDense(
            INPUTS, HIDDEN, "he_normal", activation="tanh", dtype=float64, axis=axis
        )
        self.down = parallel.RowParallelDense(
            HIDDEN, INPUTS, "he_normal", dtype=float64, axis=axis
        )
        self.middle = nn.Dense(INPUTS, INPUTS, "he_normal", dtype=float64)
        self.head = parallel.ColumnParallelDense(
            INPUTS, CLASSES, "he_normal", "ones", dtype=float64, axis=axis
        )

    def construct(self, ids: Tensor, labels: Tensor) -> Tensor:
        x = self.table(ids)
        x = x + self.middle(self.down(self.up(x)))
        logits = self.head(x)
        losses = parallel.parallel_cross_entropy(logits, labels, self.axis_of_model)
        mean: Tensor = losses.mean()
        return mean


def batch(step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and labels of the whole batch."""
    rng = np.random.default_rng(step)
    return rng.integers(0, VOCABULARY, BATCH), rng.integers(0, CLASSES, BATCH)


def train(
    comm: Communicator,
    mesh: Mesh,
    policy: Policy,
    num_steps: int = 2,
    recomputes: bool = False,
) -> tuple[list[float], dict[str, NDArray[np.float64]], ParameterManager]:
    """Train the net; return losses, this rank's weights, and the manager."""
    set_seed(11)
    net = Net(open_axis(comm, mesh))
    for cell in (net.table, net.up, net.down, net.head) if recomputes else ():
        cell.recompute()
    optimizer = optim.AdamW(net.trainable_params(), 0.01, weight_decay=0.1)
    manager = ParameterManager(net, optimizer, policy=policy, mesh=mesh, comm=comm)
    losses = []
    for step in range(num_steps):
        ids, labels = batch(step)
        mine = manager.share(BATCH)
        losses.append(float(manager.step(net, ids[mine], labels[mine])))
    with manager.unsharded():
        weights = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    return losses, weights, manager


CUT_DIMS = {"table.embedding_table": 0, "up.weight": 0, "up.bias": 0}
CUT_DIMS |= {"down.weight": 1, "head.weight": 0, "head.bias": 0}


def largest_difference(
    weights: dict[str, NDArray[np.float64]],
    wanted: dict[str, NDArray[np.float64]],
    axis: Axis,
) -> tuple[float, str]:
    """Compare this rank's weights with its slices of the twin's."""
    found = []
    for name, value in wanted.items():
        own = value
        if name in CUT_DIMS:
            own = np.split(value, axis.size, CUT_DIMS[name])[axis.index]
        found.append((float(np.abs(weights[name] - own).max()), name))
    return max(found)


@pytest.fixture(scope="module")
def twin() -> tuple[list[float], dict[str, NDArray[np.float64]]]:
    """Return losses and weights of the net on one rank."""
    (result,) = run_threads(
        1, lambda comm: train(comm, Mesh(data=1, model=1), Policy(level=Level(0)))[:2]
    )
    return result


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("mesh", MESHES, ids=repr)
def test_a_net_on_any_mesh_is_its_twin_on_one_rank(
    mesh: Mesh, level: int, twin: tuple[list[float], dict[str, NDArray[np.float64]]]
) -> None:
    policy = Policy(level=Level(level), shard_threshold_bytes=0, alignment=1)

    def body(comm: Communicator) -> tuple[list[float], float, str]:
        losses, weights, _ = train(comm, mesh, policy)
        axis = Axis(mesh, "model", comm.rank)
        return losses, *largest_difference(weights, twin[1], axis)

    for losses, difference, name in run_threads(mesh.size, body):
        assert np.allclose(losses, twin[0], rtol=ROUNDING, atol=0)
        assert difference < ROUNDING, name


@pytest.mark.parametrize("level", [1, 3])
def test_a_cut_net_that_computes_its_cells_again_is_its_twin(
    level: int, twin: tuple[list[float], dict[str, NDArray[np.float64]]]
) -> None:
    # A node per rank: at level 3 weights are gathered cell by cell, twice.
    mesh = Mesh(data=2, model=2, ranks_per_node=1)
    policy = Policy(level=Level(level), shard_threshold_bytes=0, alignment=1)

    def body(comm: Communicator) -> tuple[list[float], float, str]:
        losses, weights, _ = train(comm, mesh, policy, recomputes=True)
        axis = Axis(mesh, "model", comm.rank)
        return losses, *largest_difference(weights, twin[1], axis)

    for losses, difference, name in run_threads(mesh.size, body):
        assert np.allclose(losses, twin[0], rtol=ROUNDING, atol=0)
        assert difference < ROUNDING, name


@pytest.mark.mpi
def test_a_cut_net_is_its_twin_in_a_real_world(
    on_ranks: OnRanks, twin: tuple[list[float], dict[str, NDArray[np.float64]]]
) -> None:
    def body(comm: Communicator) -> None:
        model = 2 if comm.size % 2 == 0 else 1
        mesh = Mesh(data=comm.size // model, model=model)
        losses, weights, manager = train(comm, mesh, Policy(level=Level(2)))
        axis = Axis(mesh, "model", comm.rank)
        difference, name = largest_difference(weights, twin[1], axis)
        manager.close()
        ok = difference < ROUNDING and np.allclose(losses, twin[0], rtol=ROUNDING)
        assert_on_all_ranks(comm, ok, f"{name} differs by {difference}; {losses}")

    on_ranks(body)


def test_shards_start_as_slices_of_the_whole_weights() -> None:
    mesh = Mesh(data=1, model=4)

    def body(comm: Communicator) -> NDArray[np.float64]:
        set_seed(3)
        cell = parallel.RowParallelDense(
            8, 3, "normal", dtype=float64, axis=open_axis(comm, mesh)
        )
        return cell.weight.asnumpy()

    set_seed(3)
    whole = nn.Dense(8, 3, "normal", dtype=float64).weight.asnumpy()
    assert (np.concatenate(run_threads(4, body), 1) == whole).all()


@pytest.mark.mpi
@pytest.mark.parametrize(("level", "per_node"), [(1, None), (2, None), (2, 1), (3, 1)])
def test_a_rank_that_raises_in_a_pass_takes_all_with_it(
    on_ranks: OnRanks, level: int, per_node: int | None
) -> None:
    def body(comm: Communicator) -> None:
        mesh = Mesh(data=1, model=comm.size, ranks_per_node=per_node)
        set_seed(1)
        axis = open_axis(comm, mesh)
        up = parallel.ColumnParallelDense(4, 60, activation="relu", axis=axis)
        down = parallel.RowParallelDense(60, 4, axis=axis)
        net = nn.SequentialCell(up, down, nn.Dense(4, 4))
        policy = Policy(level=Level(level), shard_threshold_bytes=0)
        optimizer = optim.SGD(net.trainable_params(), 0.1)
        manager = ParameterManager(net, optimizer, policy=policy, mesh=mesh, comm=comm)
        last = comm.size - 1

        def loss(x: Tensor) -> Tensor:
            out = net(x)
            if comm.rank == last and manager.num_steps == 1:
                raise KeyError("lost")
            mean: Tensor = (out * out).mean()
            return mean

        x = np.ones((2, 4), np.float32)
        manager.step(loss, x)
        caught = ""
        try:
            manager.step(loss, x)
        except (RankFailed, KeyError) as error:
            caught = str(error)
        ok = "lost" in caught and manager.num_steps == 1
        manager.close()
        assert_on_all_ranks(comm, ok, f"caught {caught!r}")

    on_ranks(body)


def _call(axis: Axis, rank: int) -> object:
    x = Tensor(np.ones((2, 4 + rank), np.float32))
    return parallel.leave(x, axis)


def _other_order(axis: Axis, rank: int) -> object:
    x = Tensor(np.ones((2, 4), np.float32))
    return (parallel.leave if rank else parallel.leave_cut)(x, axis)


def _one_more(axis: Axis, rank: int) -> object:
    x = Tensor(np.ones((2, 4), np.float32))
    return parallel.leave(x, axis) if rank else x


@pytest.mark.parametrize("wrong", [_call, _other_order, _one_more])
def test_ranks_in_different_operators_are_told(
    wrong: Callable[[Axis, int], object],
) -> None:
    def body(comm: Communicator) -> str:
        axis = open_axis(comm, Mesh(model=2))
        with (
            pytest.raises(PlanMismatch, match="not in the same operator"),
            axis.guard(),
        ):
            wrong(axis, comm.rank)
        return "told"

    assert run_threads(2, body, timeout_s=10) == ["told"] * 2


def test_a_guard_is_left_together() -> None:
    def body(comm: Communicator) -> None:
        axis = open_axis(comm, Mesh(model=3))
        x = Tensor(np.ones((2, 3), np.float32))

        def in_guard() -> None:
            with axis.guard():
                parallel.leave(x, axis)
                if comm.rank == 1:
                    raise ZeroDivisionError
                parallel.leave(x, axis)

        with pytest.raises(ZeroDivisionError if comm.rank == 1 else RankFailed):
            in_guard()
        with axis.guard():  # and can be entered again
            assert (parallel.leave(x, axis).asnumpy() == 3).all()

    run_threads(3, body, timeout_s=10)


def test_a_cut_embedding_refuses_ids_by_place() -> None:
    axis = Axis(Mesh(model=1), "model")
    table = parallel.VocabParallelEmbedding(4, 2, axis=axis)
    with pytest.raises(ValueError, match=r"id 4 at \(1, 0\) is outside of \[0, 4\)"):
        table(Tensor(np.array([[0, 3], [4, 1]])))
    with pytest.raises(TypeError, match="ids are integers, not float32"):
        table(Tensor(np.ones(2, np.float32)))


def test_cross_entropy_over_cut_classes_is_that_over_whole_ones() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 8)) * 30, rng.integers(0, 8, 6)
    wanted = ops.cross_entropy(Tensor(logits), Tensor(labels), reduction="none")

    def body(comm: Communicator) -> NDArray[np.float64]:
        axis = open_axis(comm, Mesh(model=4))
        own = np.split(logits, 4, 1)[comm.rank]
        found = parallel.parallel_cross_entropy(Tensor(own), Tensor(labels), axis)
        return found.asnumpy()

    for found in run_threads(4, body):
        assert np.allclose(found, wanted.asnumpy(), rtol=ROUNDING)
