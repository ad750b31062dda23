"""A step on many ranks against the whole answer computed serially."""

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import CLASSES, adamw, global_batch, loss_of, make_net, share_of

from parallel_params import nn, ops, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.grad import value_and_grad
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

# float32 sums of a few hundred terms in another order.
TOLERANCE = 1e-5


def serial_weights(num_steps: int, batch: int) -> dict[str, Array]:
    """Train on the whole batch with the optimizer alone, without any manager."""
    net = make_net()
    optimizer = adamw(net)
    weights = nn.ParameterTuple(net.trainable_params())
    for step in range(num_steps):
        x, y = (Tensor(array) for array in global_batch(batch, step))
        _, gradients = value_and_grad(loss_of(net), None, weights)(x, y)
        optimizer(gradients)
    return {p.name: p.asnumpy().copy() for p in weights}


@pytest.mark.mpi
@pytest.mark.parametrize("reduction", ["canonical", "fast"])
@pytest.mark.parametrize("level", [0, 1])
def test_sharded_steps_equal_serial_steps(
    on_ranks: OnRanks, level: int, reduction: str
) -> None:
    def body(comm: Communicator) -> None:
        batch = 2 * comm.size
        net = make_net()
        policy = Policy(
            level=Level(level),
            reduction="fast" if reduction == "fast" else "canonical",
            shard_threshold_bytes=0,
            alignment=4,
        )
        with ParameterManager(net, adamw(net), policy=policy, comm=comm) as manager:
            for step in range(3):
                manager.step(loss_of(net), *share_of(comm, *global_batch(batch, step)))
        wrong = [
            name
            for name, expected in serial_weights(3, batch).items()
            if not np.allclose(
                net.parameters_dict()[name].asnumpy(), expected, atol=TOLERANCE
            )
        ]
        assert_on_all_ranks(comm, not wrong, f"other weights: {wrong}")

    on_ranks(body)


def test_loss_is_the_mean_over_the_global_batch(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        batch = global_batch(4 * comm.size)
        expected = float(loss_of(net)(*(Tensor(array) for array in batch)))
        manager = ParameterManager(net, adamw(net), comm=comm)
        loss = float(manager.step(loss_of(net), *share_of(comm, *batch)))
        assert_on_all_ranks(
            comm, abs(loss - expected) < TOLERANCE, f"{loss} for {expected}"
        )

    on_ranks(body)


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_gradients_passed_to_update_make_the_step(num_ranks: int) -> None:
    policy = Policy(grains=4, shard_threshold_bytes=0)

    def in_one(comm: Communicator) -> str:
        net = make_net()
        manager = ParameterManager(net, adamw(net), policy=policy, comm=comm)
        manager.step(loss_of(net), *share_of(comm, *global_batch(8)))
        return manager.weights_hash()

    def in_two(comm: Communicator) -> str:
        net = make_net()
        manager = ParameterManager(net, adamw(net), policy=policy, comm=comm)
        batch = share_of(comm, *global_batch(8))
        _, gradients = manager.value_and_grad(loss_of(net), *batch)
        manager.update({name: g.copy() for name, g in gradients.items()})
        return manager.weights_hash()

    assert run_threads(num_ranks, in_two) == run_threads(num_ranks, in_one)


def test_foreign_gradients_are_averaged_and_missing_ones_are_zero(
    on_ranks: OnRanks,
) -> None:
    def body(comm: Communicator) -> None:
        w = Parameter(Tensor(np.zeros((2, 3), np.float32)), name="w")
        b = Parameter(Tensor(np.ones(3, np.float32)), name="b")
        manager = ParameterManager([w, b], optim.SGD([w, b], 1.0), comm=comm)
        manager.update({"w": np.full((2, 3), comm.rank + 1.0)})
        mean = (comm.size + 1) / 2
        ok = np.allclose(w.asnumpy(), -mean) and (b.asnumpy() == 1).all()
        counted = manager.num_absent == {"b": 1}
        assert_on_all_ranks(comm, bool(ok and counted), f"{w.asnumpy()}")

    on_ranks(body)


def test_a_weight_the_loss_does_not_use_keeps_its_value() -> None:
    net = make_net()
    unused = Parameter(Tensor(np.ones(5, np.float32)), name="unused")
    parameters = [*net.trainable_params(), unused]
    manager = ParameterManager(parameters, optim.SGD(parameters, 0.5, momentum=0.9))
    for step in range(2):
        manager.step(loss_of(net), *global_batch(4, step))
    assert (unused.asnumpy() == 1).all()
    assert manager.num_absent == {"unused": 2}
    assert "unused: no gradient in 2 grains" in manager.report()


def test_dropout_masks_do_not_depend_on_the_world() -> None:
    def body(comm: Communicator) -> str:
        net = make_net()
        dropout = nn.Dropout(p=0.5).set_train()

        def loss_fn(x: Tensor, y: Tensor) -> Tensor:
            return ops.cross_entropy(net(dropout(x)), y)

        manager = ParameterManager(net, adamw(net), policy=Policy(grains=4), comm=comm)
        for step in range(2):
            manager.step(loss_fn, *share_of(comm, *global_batch(8, step)))
        return manager.weights_hash()

    hashes = [run_threads(size, body)[0] for size in (1, 2, 4)]
    assert len(set(hashes)) == 1


def test_groups_of_an_optimizer_keep_their_own_rates() -> None:
    net = make_net()
    first, second = net.trainable_params()[:2], net.trainable_params()[2:]
    optimizer = optim.SGD(
        [{"params": first, "lr": 0.0}, {"params": second, "lr": 1.0}], 0.1
    )
    before = [p.asnumpy().copy() for p in (*first, *second)]
    manager = ParameterManager(net, optimizer)
    manager.step(loss_of(net), *global_batch(4))
    moved = [
        not np.array_equal(old, p.asnumpy())
        for old, p in zip(before, (*first, *second), strict=True)
    ]
    assert moved == [False, False, True, True]


def test_the_loss_scale_is_divided_out() -> None:
    w = Parameter(Tensor(np.zeros(1, np.float32)), name="w")
    manager = ParameterManager([w], optim.SGD([w], 1.0, loss_scale=4.0))
    manager.update({"w": np.full(1, 8.0)})
    assert float(w.asnumpy()[0]) == -2.0


def test_learning_rate_follows_its_schedule() -> None:
    w = Parameter(Tensor(np.zeros(1, np.float32)), name="w")
    manager = ParameterManager([w], optim.SGD([w], [1.0, 0.5, 0.25]))
    values = []
    for _ in range(3):
        manager.update({"w": np.ones(1)})
        values.append(float(w.asnumpy()[0]))
    assert values == [-1.0, -1.5, -1.75]


def test_steps_taken_before_the_manager_are_continued(on_ranks: OnRanks) -> None:
    gradients = [np.array(values, np.float32) for values in ([1, 2, 3], [3, -2, 1])]

    def body(comm: Communicator) -> None:
        alone, managed = (
            Parameter(Tensor(np.ones(3, np.float32)), name="w") for _ in range(2)
        )
        for parameter in (alone, managed):
            optimizer = optim.AdamW([parameter], 0.1)
            optimizer((Tensor(gradients[0]),))
            if parameter is alone:
                optimizer((Tensor(gradients[1]),))
        policy = Policy(shard_threshold_bytes=0, alignment=1)
        manager = ParameterManager([managed], optimizer, policy=policy, comm=comm)
        manager.update({"w": gradients[1]})
        ok = np.allclose(managed.asnumpy(), alone.asnumpy(), atol=TOLERANCE)
        assert_on_all_ranks(comm, ok and manager.num_steps == 2, f"{managed.asnumpy()}")

    on_ranks(body)


def test_mixed_dtypes_train_side_by_side() -> None:
    narrow = Parameter(Tensor(np.ones((3, CLASSES), np.float16)), name="narrow")
    wide = Parameter(Tensor(np.ones((3, CLASSES), np.float64)), name="wide")
    manager = ParameterManager([narrow, wide], optim.SGD([narrow, wide], 0.5))
    manager.update({"narrow": np.ones((3, CLASSES)), "wide": np.ones((3, CLASSES))})
    assert (narrow.asnumpy() == 0.5).all()
    assert (wide.asnumpy() == 0.5).all()
    assert (narrow.dtype.name, wide.dtype.name) == ("float16", "float64")
