"""`cell.recompute()`: the same bits, fewer live arrays, listeners as exact as ever."""

import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_nets import adamw, global_batch, loss_of, share_of

from parallel_params import nn, ops
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor import Tensor, no_grad, random, value_and_grad
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.frame import Frame
from parallel_params.tensor.gradcheck import check_grad
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tape import Array

X = Tensor(np.random.default_rng(0).standard_normal((8, 7), np.float32))


class Block(nn.Cell):
    """A layer with dropout, a statistic, two results, and a weight of another cell."""

    def __init__(self, tied: nn.Parameter) -> None:
        super().__init__()
        self.dense = nn.Dense(7, 7, activation="tanh")
        self.norm = nn.BatchNorm1d(7)
        self.dropout = nn.Dropout(p=0.3)
        self.inner = nn.Dense(7, 7, activation="gelu")
        self.__dict__["tied"] = tied  # read here, registered elsewhere

    def construct(
        self, x: Tensor, *, scale: float = 1.0
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the result and a by-product."""
        hidden = self.dropout(self.norm(self.dense(x))) * scale
        return self.inner(hidden) + x, [hidden.sum(), x @ self.tied]


class Net(nn.Cell):
    """Two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        set_seed(5)
        self.weight = nn.Parameter(np.eye(7, dtype=np.float32) * 0.1)
        self.first, self.second = Block(self.weight), Block(self.weight)
        self.head = nn.Dense(7, 3)

    def construct(self, x: Tensor) -> Tensor:
        """Return logits, with a bit of everything."""
        x, (aside, _) = self.first(x, scale=0.5)
        x, (_, tied) = self.second(x)
        out: Tensor = self.head(x + tied) + aside * 0.01
        return out


def make_net(*paths: str) -> Net:
    """Return a net in training in which the cells of these paths recompute."""
    net = Net().set_train()
    cells = dict(net.cells_and_names())
    for path in paths:
        cells[path].recompute()
    return net


def trained(net: Net) -> tuple[list[object], list[object]]:
    """Return the gradients of one batch, and all parameters behind it."""
    with random.scope("step", 3):
        _, gradients = value_and_grad(
            lambda x: ops.cross_entropy(net(x), Tensor([0, 1, 2, 0, 1, 2, 0, 1])),
            0,
            net.trainable_params(),
        )(X)
    assert isinstance(gradients, tuple)
    of_x, of_weights = gradients
    parts = [of_x, *of_weights]
    return (
        [part.tolist() for part in parts if isinstance(part, Tensor)],
        [p.tolist() for p in net.get_parameters()],
    )


CHOICES = [
    ("first",),
    ("first", "second"),
    ("second", "second.dense", "second.norm"),
    ("", "first", "first.inner"),
]


@pytest.mark.parametrize("paths", CHOICES)
def test_gradients_and_statistics_have_the_same_bits(paths: tuple[str, ...]) -> None:
    assert trained(make_net(*paths)) == trained(make_net())


@pytest.mark.parametrize("paths", CHOICES)
def test_backward_outside_of_frames_has_the_same_bits(paths: tuple[str, ...]) -> None:
    def grads(net: Net) -> list[object]:
        x = Tensor(X.asnumpy().copy()).requires_grad_()
        with random.scope("step", 3):
            loss = ops.cross_entropy(net(x), Tensor([0, 1, 2, 0, 1, 2, 0, 1]))
        loss.backward()
        found = [p.grad for p in net.trainable_params()]
        return [None if g is None else g.tolist() for g in (x.grad, *found)]

    assert grads(make_net(*paths)) == grads(make_net())


def test_draws_behind_a_recomputed_cell_are_what_they_were() -> None:
    def draws(net: Net) -> list[object]:
        with random.scope("step", 1):
            value_and_grad(lambda x: net(x).sum(), 0)(X)
            found: list[object] = random.next_stream().words(0, 3).tolist()
            return found

    assert draws(make_net("first", "second")) == draws(make_net())


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("ranks_per_node", [1, 2])
def test_a_manager_trains_the_same_bits(level: int, ranks_per_node: int) -> None:
    policy = Policy(
        level=Level(level),
        grains=4,
        shard_threshold_bytes=0,
        alignment=1,
        bucket_bytes=250,
    )

    def body(comm: Communicator, *paths: str) -> str:
        net = make_net(*paths)
        mesh = Mesh(data=comm.size, ranks_per_node=min(ranks_per_node, comm.size))
        chosen = policy if comm.size > 1 else Policy(grains=4)
        # Level 3 over nodes uses a weight in one place only.
        for cell in (net.first, net.second):
            cell.__dict__["tied"] = Tensor(np.eye(7, dtype=np.float32))
        manager = ParameterManager(net, adamw(net), policy=chosen, comm=comm, mesh=mesh)
        for step in range(2):
            arrays = share_of(comm, *global_batch(16, step))
            manager.step(loss_of(net), *arrays)
        return manager.weights_hash()

    alone = run_threads(1, body)
    assert run_threads(2, lambda comm: body(comm, "first", "second")) == alone * 2
    assert run_threads(2, lambda comm: body(comm, "", "second.dense")) == alone * 2


def test_no_gradient_is_final_before_all_that_read_its_weight_are_through() -> None:
    def order(*paths: str) -> list[tuple[int, Array]]:
        net = make_net(*paths)
        weights = net.trainable_params()
        sinks = [np.full(w.shape, np.nan, np.float32) for w in weights]
        found: list[tuple[int, Array]] = []

        def on_final(i: int) -> None:
            found.append((i, sinks[i].copy()))

        with random.scope("step", 1), Frame(weights, [*sinks], on_final) as frame:
            loss = net(X).sum()
            arrived = frame.sweep(loss, Tensor(1.0, dtypes.float32))
            assert all(
                a is s for a, s in zip(arrived, sinks, strict=True) if a is not None
            )
        return found

    plain = order()
    for paths in CHOICES:
        finals = order(*paths)
        assert sorted(i for i, _ in finals) == [*range(len(plain))]
        complete = {i: gradient.tolist() for i, gradient in plain}
        for i, gradient in finals:
            assert str(gradient.tolist()) == str(complete[i])


def test_marks_on_the_tape_are_met_with_recomputed_cells() -> None:
    net = make_net("second")
    with Frame(net.trainable_params()) as frame, random.scope("step", 1):
        x, _ = net.first(X)
        middle = frame.num_nodes
        x, _ = net.second(x)
        left: list[int] = []
        frame.at(middle, lambda: left.append(frame.num_nodes))
        frame.sweep(x.sum(), Tensor(1.0, dtypes.float32))
    assert left == [middle]


def test_a_pinned_tape_is_not_cut() -> None:
    layer = nn.Dense(7, 7, activation="tanh")

    def run(is_pinned: bool) -> int:
        class Pinning(nn.Cell):
            def construct(self, x: Tensor) -> Tensor:
                x = layer(layer(x))
                if is_pinned:
                    frame.pin()
                out: Tensor = layer(x)
                return out

        cell = Pinning()
        cell.recompute()
        with Frame(layer.trainable_params()) as frame:
            cell(X)
            return frame.num_nodes

    assert run(is_pinned=True) == 3
    assert run(is_pinned=False) == 2  # the cell, and its result


# ---- memory


class Chain(nn.Cell):
    """Elementwise operators that keep what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[weakref.ref[Array]] = []

    def construct(self, x: Tensor) -> Tensor:
        """Return x after ten operators, watched."""
        for _ in range(10):
            x = ops.tanh(x)
            self.kept.append(weakref.ref(x.asnumpy()))
        return x

    def num_alive(self) -> int:
        """Return how many of the arrays are still there."""
        return sum(ref() is not None for ref in self.kept)


def test_activations_die_after_forward() -> None:
    cell = Chain()
    cell.recompute()
    with Frame((x := Tensor(np.ones(5)),)) as frame:
        loss = cell(x).sum()
        assert cell.num_alive() <= 1, "only the result"
        (gradient,) = frame.sweep(loss, Tensor(1.0, dtypes.float64))
    assert cell.num_alive() == 0
    assert isinstance(gradient, np.ndarray)


def test_backward_holds_one_cell_at_a_time() -> None:
    def peak(*, recompute: bool) -> int:
        cells = [Chain() for _ in range(6)]
        if recompute:
            for cell in cells:
                cell.recompute()
        x = Tensor(np.ones(1 << 14))

        def fn(x: Tensor) -> Tensor:
            for cell in cells:
                x = cell(x)
            return x.sum()

        tracemalloc.start()
        value_and_grad(fn)(x)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(recompute=True) < 0.4 * peak(recompute=False)


# ---- where there is nothing to drop


def test_without_a_gradient_nothing_is_kept_anyway() -> None:
    net = make_net("first")
    net.set_train(False)
    want = make_net().set_train(False)(X).tolist()
    with no_grad():
        assert net(X).tolist() == want
    assert net(X).tolist() == want


def test_second_derivatives_are_there() -> None:
    layer = nn.Dense(3, 3, activation="tanh", dtype=dtypes.float64)
    layer.recompute()
    check_grad(lambda x: layer(x) * x, Tensor(np.linspace(-1.0, 1.0, 6).reshape(2, 3)))


def test_a_cell_may_return_its_input_and_what_is_no_tensor() -> None:
    class Odd(nn.Cell):
        def construct(self, x: Tensor) -> dict[str, Any]:
            double = x * 2.0
            return {"same": x, "twice": (double, double), "name": "odd", "no": None}

    cell = Odd()
    cell.recompute()

    def fn(x: Tensor) -> Tensor:
        out = cell(x)
        assert (out["same"] is x, out["name"], out["no"]) == (True, "odd", None)
        total: Tensor = (out["twice"][0] * out["twice"][1] + out["same"]).sum()
        return total

    _, gradient = value_and_grad(fn)(Tensor([3.0], dtypes.float64))
    assert isinstance(gradient, Tensor)
    assert gradient.tolist() == [4 * 2 * 3.0 + 1]


def test_a_cell_that_computes_something_else_the_second_time_is_refused() -> None:
    class Moody(nn.Cell):
        def construct(self, x: Tensor) -> list[Tensor]:
            calls.append(1)
            return [x * 2.0] * 1 if len(calls) == 1 else [x * 2.0, x * 3.0]

    calls: list[int] = []
    cell = Moody()
    cell.recompute()
    fn: Callable[..., Any] = value_and_grad(lambda x: cell(x)[0].sum())
    with pytest.raises(RuntimeError, match="made 2 results in backward and 1"):
        fn(Tensor([1.0]))


def test_recompute_asks_for_bools() -> None:
    with pytest.raises(TypeError, match="mp_comm_recompute"):
        nn.Dense(1, 1).recompute(mp_comm_recompute=1)  # type: ignore[arg-type]
