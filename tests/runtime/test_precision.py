"""16-bit weights with exact ones behind them, loss scales, and what a wire rounds."""

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, make_net, share_of

from parallel_params import optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import NonFiniteGradient
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.guards import LossScale
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy, Transport, WireDtype
from parallel_params.tensor.dtype import DType, bfloat16, float16
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

SMALL_RATE = 2.0**-10  # bfloat16 has 8 bits: one such step from 1 is rounded away
WAYS: tuple[tuple[Transport, int | None], ...] = (
    ("auto", None),
    ("auto", 2),
    ("messages", None),
)


def policy_of(
    level: int,
    *,
    transport: Transport = "auto",
    master_weights: bool = True,
    loss_scale: LossScale | float | None = None,
    wire_dtype: WireDtype | None = None,
    grains: int | None = None,
) -> Policy:
    """Return a policy that cuts everything into small buckets."""
    return Policy(
        level=Level(level),
        transport=transport,
        master_weights=master_weights,
        loss_scale=loss_scale,
        wire_dtype=wire_dtype,
        grains=grains,
        bucket_bytes=40,
        shard_threshold_bytes=0,
        alignment=1,
    )


def make_manager(
    comm: Communicator, policy: Policy, dtype: DType, *, per_node: int | None = None
) -> tuple[ParameterManager, list[Parameter]]:
    """Return a manager with SGD over ones of a 16-bit type."""
    parameters = [
        Parameter(Tensor(np.ones(shape), dtype), name=name)
        for name, shape in {"a": (3, 5), "b": (7,)}.items()
    ]
    mesh = Mesh(data=comm.size, ranks_per_node=per_node)
    optimizer = optim.SGD(parameters, SMALL_RATE)
    manager = ParameterManager(
        parameters, optimizer, policy=policy, mesh=mesh, comm=comm
    )
    return manager, parameters


def values_of(manager: ParameterManager, parameters: list[Parameter]) -> list[Array]:
    """Return the weights as float64."""
    with manager.unsharded():
        return [p.asnumpy().astype(np.float64) for p in parameters]


def ones(parameters: list[Parameter]) -> dict[str, Array]:
    """Return gradients of ones."""
    return {p.name: np.ones(p.shape, p.asnumpy().dtype) for p in parameters}


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", [bfloat16, float16], ids=str)
def test_steps_too_small_for_16_bits_add_up_in_the_master_weights(
    dtype: DType, way: tuple[Transport, int | None], level: int
) -> None:
    def body(comm: Communicator) -> None:
        policy = policy_of(level, transport=way[0])
        manager, parameters = make_manager(comm, policy, dtype, per_node=way[1])
        with manager.unsharded():
            gradients = ones(parameters)
        for _ in range(8):
            manager.update(gradients)
        for value in values_of(manager, parameters):
            assert (value == 1 - 8 * SMALL_RATE).all()

    run_threads(4, body)


@pytest.mark.parametrize("level", range(4))
def test_without_master_weights_they_are_lost(level: int) -> None:
    def body(comm: Communicator) -> None:
        policy = policy_of(level, master_weights=False)
        manager, parameters = make_manager(comm, policy, bfloat16)
        for _ in range(8):
            manager.update(ones(parameters))
        assert all((value == 1).all() for value in values_of(manager, parameters))

    run_threads(2, body)


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_loss_scale_of_a_power_of_two_changes_no_bit(
    num_ranks: int, level: int
) -> None:
    def trained(comm: Communicator, scale: LossScale | float | None) -> str:
        net = make_net()
        policy = policy_of(level, loss_scale=scale, grains=2)
        manager = ParameterManager(net, adamw(net), policy=policy, comm=comm)
        for step in range(2):
            batch = share_of(comm, *global_batch(8, step))
            manager.accumulate(loss_of(net), *batch)
            loss = manager.step(loss_of(net), *batch)
            assert float(loss) < 10  # the true one, whatever the scale
        return manager.weights_hash()

    def body(comm: Communicator) -> None:
        scales = (None, 1024.0, LossScale(initial=4096.0))
        assert len({trained(comm, scale) for scale in scales}) == 1

    run_threads(num_ranks, body)


@pytest.mark.parametrize("level", range(4))
def test_an_update_counts_as_one_sample_beside_scaled_ones(level: int) -> None:
    def body(comm: Communicator) -> None:
        weight = Parameter(Tensor(np.zeros(4, np.float32)), name="w")
        manager = ParameterManager(
            [weight],
            optim.SGD([weight], 1.0),
            policy=policy_of(level, loss_scale=1024.0),
            comm=comm,
        )
        manager.accumulate(lambda x: (x @ weight).mean(), np.ones((1, 4), np.float32))
        manager.update({"w": np.full(4, 3.0)})
        assert (values_of(manager, [weight])[0] == -2).all()

    run_threads(2, body)


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_dynamic_scale_backs_off_and_grows_on_all_ranks(
    way: tuple[Transport, int | None], level: int
) -> None:
    def body(comm: Communicator) -> tuple[list[float], int, int]:
        scaling = LossScale(initial=2.0**15, growth=4.0, backoff=0.5, interval=2)
        policy = policy_of(level, transport=way[0], loss_scale=scaling)
        manager, (a, b) = make_manager(comm, policy, float16, per_node=way[1])
        scales = [manager.loss_scale]

        def loss_fn(x: Tensor) -> Tensor:
            return a.astype(x.dtype).sum() + b.astype(x.dtype).sum() * x.mean()

        for _ in range(5):
            # float16 ends at 65504; the sum of four gradients does at 2 ** 14.
            with np.errstate(over="ignore"):
                manager.step(loss_fn, np.ones((1, 2), np.float32))
            scales.append(manager.loss_scale)
        moved = values_of(manager, [a, b])
        steps = manager.num_steps
        assert all((value == 1 - steps * SMALL_RATE).all() for value in moved)
        return scales, steps, manager.num_skipped

    # Two overflows, two good steps, growth, one overflow more.
    scales = [2.0**e for e in (15, 14, 13, 13, 15, 14)]
    assert run_threads(4, body) == [(scales, 2, 3)] * 4


def test_a_scale_that_helps_no_more_is_an_error_on_all_ranks() -> None:
    def body(comm: Communicator) -> int:
        scaling = LossScale(initial=1.0, backoff=2.0**-60)
        policy = policy_of(1, loss_scale=scaling)
        manager, (a, _) = make_manager(comm, policy, float16)
        gradient = {a.name: np.full(a.shape, np.nan)}
        for _ in range(2):
            manager.update(gradient)
        with pytest.raises(NonFiniteGradient, match="3 steps were skipped"):
            manager.update(gradient)
        return manager.num_steps

    assert run_threads(2, body) == [0, 0]


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("wire", ["bfloat16", "float16"])
def test_a_wire_rounds_what_travels_between_nodes(wire: WireDtype, level: int) -> None:
    def moved(comm: Communicator, wire_dtype: WireDtype | None, value: float) -> Array:
        weight = Parameter(Tensor(np.zeros(6, np.float32)), name="w")
        policy = policy_of(level, transport="messages", wire_dtype=wire_dtype)
        manager = ParameterManager(
            [weight], optim.SGD([weight], 1.0), policy=policy, comm=comm
        )
        manager.update({"w": np.full(6, value, np.float32)})
        return values_of(manager, [weight])[0]

    def body(comm: Communicator) -> None:
        # What 8 bits can hold arrives as it is.
        assert (moved(comm, wire, 0.75) == -0.75).all()
        third = np.float32(1 / 3)
        rounded = moved(comm, wire, third)
        assert (moved(comm, None, third) == -third).all()
        np.testing.assert_allclose(rounded, -third, rtol=2**-8)
        assert not (rounded == -third).any()
        # Each row is rounded, and so are the own ones: all ranks add the same.
        assert len(set(comm.all_gather_bytes(rounded.tobytes()))) == 1

    run_threads(2, body)


@pytest.mark.parametrize("wire", ["bfloat16", None])
def test_a_wire_is_no_matter_inside_a_node(wire: WireDtype | None) -> None:
    def body(comm: Communicator) -> str:
        net = make_net()
        policy = policy_of(2, wire_dtype=wire, transport="window")
        manager = ParameterManager(net, adamw(net), policy=policy, comm=comm)
        manager.step(loss_of(net), *share_of(comm, *global_batch(4)))
        return manager.weights_hash()

    def plain(comm: Communicator) -> str:
        net = make_net()
        manager = ParameterManager(net, adamw(net), policy=policy_of(2), comm=comm)
        manager.step(loss_of(net), *share_of(comm, *global_batch(4)))
        return manager.weights_hash()

    assert run_threads(2, body) == run_threads(2, plain)


@pytest.mark.mpi
def test_processes_keep_master_weights(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        wrong = []
        for level, transport in ((1, "auto"), (3, "messages")):
            way: Transport = "auto" if transport == "auto" else "messages"
            policy = policy_of(level, transport=way, loss_scale=8.0)
            manager, parameters = make_manager(comm, policy, bfloat16)
            with manager.unsharded():
                gradients = ones(parameters)
            for _ in range(8):
                manager.update(gradients)
            values = values_of(manager, parameters)
            if not all((value == 1 - 8 * SMALL_RATE).all() for value in values):
                wrong.append((level, transport, values))
            manager.close()
        assert_on_all_ranks(comm, not wrong, str(wrong))

    on_ranks(body)
