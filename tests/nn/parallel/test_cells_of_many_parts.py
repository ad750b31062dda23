"""Heads, sequences, classes and experts that are cut do what their twins do whole."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from parallel_params import nn, ops, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanError
from parallel_params.manager import ParameterManager
from parallel_params.nn import parallel
from parallel_params.nn.parallel import Axis, open_axis
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor import float64
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tensor import Tensor

Array = NDArray[np.float64]
Build = Callable[[Axis], nn.Cell]

ROUNDING = 1e-11  # float64, two steps, other orders of sums
SAMPLES, POSITIONS, WIDTH, CLASSES = 8, 4, 8, 12


class Block(nn.Cell):
    """Attention and a norm on a cut sequence, then a pair of cut `Dense`."""

    def __init__(self, axis: Axis, sequence_dim: int | None) -> None:
        super().__init__()
        self.sequence_dim, self.axis_of_model = sequence_dim, axis
        self.norm = parallel.SequenceParallelNorm(
            nn.LayerNorm(WIDTH, dtype=float64), axis=axis
        )
        self.attention = parallel.HeadParallelAttention(
            WIDTH,
            4,
            num_kv_heads=4,
            is_causal=True,
            dtype=float64,
            axis=axis,
            sequence_dim=sequence_dim,
        )
        self.drop = parallel.SequenceParallelDropout(0.25, dim=1, axis=axis)
        self.up = parallel.ColumnParallelDense(
            WIDTH, 16, activation="gelu", dtype=float64, axis=axis,
            sequence_dim=sequence_dim,
        )  # fmt: skip
        self.down = parallel.RowParallelDense(
            16, WIDTH, dtype=float64, axis=axis, sequence_dim=sequence_dim
        )

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        if self.sequence_dim is not None:
            x = parallel.enter_cut(x, self.axis_of_model, 1)
            x = x + self.drop(self.attention(self.norm(x)))
        else:
            x = x + self.attention(x)
        x = x + self.down(self.up(x))
        if self.sequence_dim is not None:
            x = parallel.leave_cut(x, self.axis_of_model, 1)
        loss: Tensor = ((x - y) * (x - y)).mean()
        return loss


class ManyClasses(nn.Cell):
    """A dense layer in front of a classifier that is cut."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        self.body = nn.Dense(WIDTH, WIDTH, "he_normal", dtype=float64)
        self.head = parallel.ShardedClassifier(
            WIDTH, CLASSES, "he_normal", dtype=float64, axis=axis
        )

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        labels = Tensor(np.abs(y.asnumpy()[:, 0, 0] * 1e6).astype(np.int64) % CLASSES)
        loss: Tensor = self.head(self.body(x[:, 0]), labels).mean()
        return loss


class ManyExperts(nn.Cell):
    """Experts with room for everybody: what is dropped depends on the shares."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        self.experts = parallel.Experts(
            WIDTH, 6, 4, top_k=2, capacity_factor=4.0, dtype=float64, axis=axis
        )

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        out, _ = self.experts(x[:, 0])
        wrong = out - y[:, 0]
        loss: Tensor = (wrong * wrong).mean()
        return loss


NETS: dict[str, Build] = {
    "heads": lambda axis: Block(axis, None),
    "sequence": lambda axis: Block(axis, 1),
    "classes": ManyClasses,
    "experts": ManyExperts,
}
CUT = {
    "heads": "model",
    "sequence": "model",
    "classes": "expert",
    "experts": "expert",
}


def make_mesh(data: int, cut: int, name: str) -> Mesh:
    """Return a mesh whose second axis is the one that cells are cut along."""
    return Mesh({"data": data, name: cut}, layerwise_axis=name)


def train(
    comm: Communicator, mesh: Mesh, which: str, level: int
) -> tuple[list[float], dict[str, Array]]:
    """Train for two steps; return losses and all weights, put together."""
    set_seed(5)
    axis = open_axis(comm, mesh, CUT[which])
    net = NETS[which](axis)
    net.set_train()
    policy = Policy(level=Level(level), shard_threshold_bytes=0, alignment=1)
    # Not Adam, which blows up the rounding of gradients that are zero: a key's bias.
    optimizer = optim.Momentum(net.trainable_params(), 0.1, 0.9)
    manager = ParameterManager(net, optimizer, policy=policy, mesh=mesh, comm=comm)
    losses = []
    for step in range(2):
        rng = np.random.default_rng(step)
        x, y = rng.standard_normal((2, SAMPLES, POSITIONS, WIDTH))
        mine = manager.share(SAMPLES)
        losses.append(float(manager.step(net, x[mine], y[mine])))
    with manager.unsharded():
        weights = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    return losses, {
        name: _whole(name, value, axis, manager) for name, value in weights.items()
    }


def _whole(name: str, value: Array, axis: Axis, manager: ParameterManager) -> Array:
    """Join the slices of a cut weight; return any other as it is."""
    is_cut = manager.plan.bucket_of(name).axes != manager.plan.mesh.axes
    if not is_cut or axis.size == 1:
        return value
    dim = 1 if name.endswith(("down.weight", "out.weight")) else 0
    return axis.all_gather(value, dim, name)


@pytest.fixture(scope="module")
def twins() -> dict[str, tuple[list[float], dict[str, Array]]]:
    """Return losses and weights of each net on one rank."""
    found = {}
    for which in NETS:
        mesh = make_mesh(1, 1, CUT[which])
        (found[which],) = run_threads(
            1, partial(train, mesh=mesh, which=which, level=0)
        )
    return found


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("shape", [(1, 2), (1, 4), (2, 2), (2, 1)])
@pytest.mark.parametrize("which", ["heads", "classes", "experts"])
def test_cut_cells_are_their_twins(
    which: str,
    shape: tuple[int, int],
    level: int,
    twins: dict[str, tuple[list[float], dict[str, Array]]],
) -> None:
    mesh = make_mesh(*shape, CUT[which])
    losses, weights = twins[which]
    for found in run_threads(mesh.size, lambda comm: train(comm, mesh, which, level)):
        assert np.allclose(found[0], losses, rtol=ROUNDING, atol=0)
        for name, value in weights.items():
            assert np.abs(found[1][name] - value).max() < ROUNDING, name


def test_a_cut_sequence_is_its_twin_dropout_included(
    twins: dict[str, tuple[list[float], dict[str, Array]]],
) -> None:
    # One share: where the batch is cut, other grains have other masks.
    mesh = make_mesh(1, 4, "model")
    losses, weights = twins["sequence"]
    for found in run_threads(4, lambda comm: train(comm, mesh, "sequence", 2)):
        assert np.allclose(found[0], losses, rtol=ROUNDING, atol=0)
        for name, value in weights.items():
            assert np.abs(found[1][name] - value).max() < ROUNDING, name


def test_sampled_classes_hold_all_labels_and_leave_the_others_alone() -> None:
    mesh = make_mesh(1, 2, "expert")

    def body(comm: Communicator) -> tuple[float, int]:
        set_seed(2)
        axis = open_axis(comm, mesh, "expert")
        head = parallel.ShardedClassifier(WIDTH, 40, axis=axis, num_sampled=5)
        head.set_train()
        x = np.random.default_rng(comm.rank).standard_normal((3, WIDTH))
        labels = Tensor(np.array([1, 21, 39]))
        before = head.weight.asnumpy().copy()
        optimizer = optim.SGD(head.trainable_params(), 1.0)
        manager = ParameterManager(head, optimizer, mesh=mesh, comm=comm)
        loss = manager.step(
            lambda f, y: head(f, y).mean(), x.astype(np.float32), labels
        )
        moved = (head.weight.asnumpy() != before).any(1)
        own_labels = [n - 20 * comm.rank for n in (1, 21, 39)]
        assert all(moved[n] for n in own_labels if 0 <= n < 20)
        manager.close()
        return float(loss), int(moved.sum())

    found = run_threads(2, body)
    assert found[0][0] == found[1][0] < np.log(40)
    assert [num_moved for _, num_moved in found] == [5, 5]


def test_a_cut_classifier_predicts_as_a_whole_one() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((4, WIDTH))
    mesh = make_mesh(1, 4, "expert")

    def body(comm: Communicator) -> tuple[NDArray[np.int64], Array]:
        set_seed(4)
        axis = open_axis(comm, mesh, "expert")
        head = parallel.ShardedClassifier(WIDTH, 20, dtype=float64, axis=axis)
        found = head.predict(Tensor(features[[comm.rank]])).asnumpy()
        return found, head.weight.asnumpy()

    results = run_threads(4, body)
    whole = np.concatenate([weight for _, weight in results])
    assert np.concatenate([found for found, _ in results]).tolist() == (
        (features @ whole.T).argmax(1).tolist()
    )


def test_experts_drop_what_is_above_their_capacity() -> None:
    axis = Axis(make_mesh(1, 1, "expert"), "expert")
    experts = parallel.Experts(2, 3, 4, capacity_factor=1.0, axis=axis)
    experts.set_train()
    experts.gate.weight.set_data(Tensor(np.array([[9, 0]] * 1 + [[0, 0]] * 3, "f")))
    x = Tensor(np.array([[1, 0]] * 8, np.float32))
    out, balance = experts(x)
    # All eight tokens want expert 0, which takes ceil(8 / 4).
    assert (experts.num_choices, experts.num_dropped) == (8, 6)
    assert (out.asnumpy()[2:] == 0).all()
    assert (out.asnumpy()[:2] != 0).any()
    assert float(balance) == pytest.approx(4, rel=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda axis: parallel.ColumnParallelDense(4, 10, axis=axis),
            r"out_channels = 10 cannot be cut into 4 equal parts along axis 'model' of "
            r"Mesh\(model=4\). Use 8 or 12, or an axis of 1, 2, 5, 10 ranks",
        ),
        (
            lambda axis: parallel.RowParallelDense(6, 8, axis=axis),
            "in_channels = 6 cannot be cut",
        ),
        (
            lambda axis: parallel.HeadParallelAttention(
                16, 4, num_kv_heads=2, axis=axis
            ),
            "num_kv_heads = 2 cannot be cut into 4",
        ),
        (
            lambda axis: parallel.Experts(4, 4, 8, axis=axis),
            r"have to see their own samples; say Mesh\(..., batch_axes=\('model',\)",
        ),
    ],
)
def test_what_an_axis_cannot_cut_is_refused(
    make: Callable[[Axis], object], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        make(Axis(Mesh(model=4), "model"))


def test_a_mesh_that_does_not_fit_is_refused() -> None:
    with pytest.raises(PlanError, match=r"say Mesh\(..., layerwise_axis='expert'\)"):
        parallel.Experts(4, 4, 8, axis=Axis(Mesh(data=2, expert=2), "expert"))
    tensor = Mesh(data=2, tensor=2, layerwise_axis="tensor")
    with pytest.raises(PlanError, match=r"see the same samples; .*\('data',\)"):
        parallel.RowParallelDense(4, 4, axis=Axis(tensor, "tensor"))
    with pytest.raises(PlanError, match=r"has 4 ranks, the world has 2"):
        run_threads(2, lambda comm: open_axis(comm, Mesh(data=2, model=2)))
    with pytest.raises(TypeError, match="axis is made by"):
        parallel.ColumnParallelDense(4, 4, axis="model")  # type: ignore[arg-type]


def test_an_axis_without_a_communicator_is_for_plans_only() -> None:
    cell = parallel.RowParallelDense(4, 4, axis=Axis(Mesh(model=2), "model"))
    assert cell.weight.shape == (4, 2)
    with pytest.raises(RuntimeError, match="made without a communicator, for a plan"):
        cell(Tensor(np.ones((1, 2), np.float32)))


def test_losses_of_cut_classes_match_the_operator() -> None:
    axis = Axis(make_mesh(1, 1, "expert"), "expert")
    head = parallel.ShardedClassifier(WIDTH, 9, dtype=float64, axis=axis)
    x, y = np.random.default_rng(0).standard_normal((5, WIDTH)), np.arange(5)
    wanted = ops.cross_entropy(
        Tensor(x @ head.weight.asnumpy().T), Tensor(y), reduction="none"
    )
    assert np.allclose(head(Tensor(x), Tensor(y)).asnumpy(), wanted.asnumpy())
