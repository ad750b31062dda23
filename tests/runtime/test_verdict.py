"""What becomes of gradients before they move a weight: one decision of all ranks."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks

from parallel_params import optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import NonFiniteGradient
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.guards import Clip
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

SHAPES: dict[str, tuple[int, ...]] = {"a": (3, 5), "b": (), "c": (4,)}
Handling = Literal["ignore", "raise", "skip", "zero"]


def make_parameters() -> list[Parameter]:
    """Return parameters of ones, one of them a scalar."""
    return [
        Parameter(Tensor(np.ones(shape, np.float32)), name=name)
        for name, shape in SHAPES.items()
    ]


def gradients_of(rank: int) -> dict[str, Array]:
    """Return the gradients of a rank."""
    rng = np.random.default_rng(rank)
    return {
        name: np.asarray(rng.standard_normal(shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def mean_gradients(num_ranks: int) -> dict[str, Array]:
    """Return the mean over the ranks, in float64."""
    every = [gradients_of(rank) for rank in range(num_ranks)]
    return {
        name: np.mean([each[name].astype(np.float64) for each in every], axis=0)
        for name in SHAPES
    }


def policy_of(
    level: int, *, clip: Clip | None = None, non_finite: Handling = "raise"
) -> Policy:
    """Return a policy that cuts everything into small buckets."""
    return Policy(
        level=Level(level),
        clip=clip,
        non_finite=non_finite,
        bucket_bytes=40,
        shard_threshold_bytes=0,
        alignment=1,
    )


def values_of(
    manager: ParameterManager, parameters: list[Parameter]
) -> dict[str, Array]:
    """Return copies of the weights, also of those that are cut over nodes."""
    with manager.unsharded():
        return {p.name: p.asnumpy().copy() for p in parameters}


def make_manager(
    comm: Communicator, policy: Policy, per_node: int | None = None
) -> tuple[ParameterManager, list[Parameter]]:
    """Return a manager with SGD of rate 1, and its parameters."""
    parameters = make_parameters()
    mesh = Mesh(data=comm.size, ranks_per_node=per_node)
    optimizer = optim.SGD(parameters, 1.0)
    manager = ParameterManager(
        parameters, optimizer, policy=policy, mesh=mesh, comm=comm
    )
    return manager, parameters


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize(("num_ranks", "per_node"), [(3, None), (4, 2), (3, 1)])
def test_all_ranks_name_the_parameter_rank_and_element(
    num_ranks: int, per_node: int | None, level: int
) -> None:
    def body(comm: Communicator) -> tuple[str, int, bool]:
        manager, parameters = make_manager(comm, policy_of(level), per_node)
        gradients = gradients_of(comm.rank)
        if comm.rank == 1:
            gradients["a"][2, 1] = np.inf
            gradients["c"][0] = np.nan
        with pytest.raises(NonFiniteGradient) as caught:
            manager.update(gradients)
        values = values_of(manager, parameters)
        bucket = manager.plan.bucket_of("a").index
        is_kept = all((value == 1).all() for value in values.values())
        expected = (
            "the gradient of 'a' from rank 1 is not finite at element 11 "
            f"(bucket {bucket})"
        )
        assert expected in str(caught.value)
        manager.update(gradients_of(comm.rank))
        moved = values_of(manager, parameters)
        assert not (moved["a"] == 1).any()
        return str(caught.value), manager.num_steps, is_kept

    outcomes = run_threads(num_ranks, body)
    assert outcomes == [(outcomes[0][0], 1, True)] * num_ranks


@pytest.mark.parametrize("level", range(4))
def test_a_skipped_step_moves_nothing_and_is_counted(level: int) -> None:
    def body(comm: Communicator) -> None:
        parameters = make_parameters()
        optimizer = optim.Adam(parameters, 0.1)
        manager = ParameterManager(
            parameters, optimizer, policy=policy_of(level, non_finite="skip"), comm=comm
        )
        gradients = gradients_of(comm.rank)
        manager.update(gradients)
        before = values_of(manager, parameters)
        wrong = {**gradients, "b": np.float32("nan")}
        manager.update(wrong if comm.rank == 2 else gradients)
        after = values_of(manager, parameters)
        assert all((before[name] == after[name]).all() for name in before)
        assert (manager.num_steps, manager.num_skipped) == (1, 1)
        assert "1 steps skipped" in manager.report()
        manager.update(gradients)
        assert (manager.num_steps, manager.num_skipped) == (2, 1)

        # As if the skipped step had never been.
        others = make_parameters()
        straight = ParameterManager(
            others, optim.Adam(others, 0.1), policy=policy_of(level), comm=comm
        )
        straight.update(gradients)
        straight.update(gradients)
        assert straight.weights_hash() == manager.weights_hash()

    run_threads(3, body)


@pytest.mark.parametrize("level", range(4))
def test_zero_takes_only_the_wrong_elements_out(level: int) -> None:
    def body(comm: Communicator) -> None:
        manager, parameters = make_manager(comm, policy_of(level, non_finite="zero"))
        gradients = gradients_of(comm.rank)
        if comm.rank == 0:
            gradients["a"][0, 3] = -np.inf
        manager.update(gradients)
        expected = mean_gradients(3)
        expected["a"][0, 3] = 0
        for name, value in values_of(manager, parameters).items():
            np.testing.assert_allclose(value, 1 - expected[name], atol=1e-6)
        assert (manager.num_steps, manager.num_skipped) == (1, 0)

    run_threads(3, body)


@pytest.mark.parametrize("level", [0, 1, 3])
def test_ignoring_lets_them_through(level: int) -> None:
    def body(comm: Communicator) -> None:
        manager, parameters = make_manager(comm, policy_of(level, non_finite="ignore"))
        gradients = gradients_of(comm.rank)
        gradients["c"][1] = np.nan
        manager.update(gradients)
        values = values_of(manager, parameters)
        assert np.isnan(values["c"]).tolist() == [False, True, False, False]
        assert np.isfinite(values["a"]).all()

    run_threads(2, body)


def clipped(
    gradients: Mapping[str, Array], clip: Clip, groups: Mapping[str, int]
) -> tuple[dict[str, Array], list[float]]:
    """Return what clipping leaves of mean gradients, and the norms before; serially."""
    bounded = {
        name: g if clip.value is None else np.clip(g, -clip.value, clip.value)
        for name, g in gradients.items()
    }
    if clip.norm is None:
        return bounded, []
    keys = {
        name: {"all": 0, "group": groups.get(name), "parameter": name}[clip.per]
        for name in bounded
    }
    squares: dict[object, float] = {}
    for name, g in bounded.items():
        squares[keys[name]] = squares.get(keys[name], 0.0) + float((g * g).sum())
    norms = {key: math.sqrt(total) for key, total in squares.items()}
    scaled = {
        name: g * min(1.0, clip.norm / norms[keys[name]]) for name, g in bounded.items()
    }
    return scaled, sorted(norms.values())


CLIPS = [
    Clip(norm=1.0),
    Clip(norm=0.5, per="group"),
    Clip(norm=0.5, per="parameter"),
    Clip(value=0.2),
    Clip(norm=0.6, value=0.3),
    Clip(norm=100.0),
]


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize(("num_ranks", "per_node"), [(1, None), (3, None), (4, 2)])
@pytest.mark.parametrize("clip", CLIPS, ids=str)
def test_clipping_is_that_of_a_serial_run(
    clip: Clip, num_ranks: int, per_node: int | None, level: int
) -> None:
    groups = {"a": 0, "b": 1, "c": 0}
    expected, norms = clipped(mean_gradients(num_ranks), clip, groups)

    def body(comm: Communicator) -> list[float]:
        a, b, c = parameters = make_parameters()
        optimizer = optim.SGD([{"params": [a, c]}, {"params": [b]}], 1.0)
        manager = ParameterManager(
            parameters,
            optimizer,
            policy=policy_of(level, clip=clip),
            mesh=Mesh(data=comm.size, ranks_per_node=per_node),
            comm=comm,
        )
        manager.update(gradients_of(comm.rank))
        for name, value in values_of(manager, parameters).items():
            np.testing.assert_allclose(value, 1 - expected[name], atol=1e-6)
        return sorted(manager.gradient_norms.values())

    outcomes = run_threads(num_ranks, body)
    assert outcomes == [outcomes[0]] * num_ranks
    np.testing.assert_allclose(outcomes[0], norms, rtol=1e-6)


@pytest.mark.parametrize("level", [0, 1])
def test_norms_count_what_is_a_ranks_own_on_every_rank(level: int) -> None:
    def body(comm: Communicator) -> float:
        shared = Parameter(Tensor(np.zeros(2, np.float32)), name="shared")
        own = Parameter(
            Tensor(np.zeros(3, np.float32)), name="own", layerwise_parallel=True
        )
        manager = ParameterManager(
            [shared, own],
            optim.SGD([shared, own], 1.0),
            policy=policy_of(level, clip=Clip(norm=1e6)),
            comm=comm,
        )
        manager.update({"shared": np.ones(2), "own": np.full(3, comm.rank + 1.0)})
        # Per rank 1 and 2; what is a rank's own enters as it moves the weight.
        assert (shared.asnumpy() == -1).all()
        np.testing.assert_allclose(own.asnumpy(), -(comm.rank + 1.0))
        return dict(manager.gradient_norms)[""]

    norms = run_threads(2, body)
    assert norms == [norms[0]] * 2
    assert norms[0] == pytest.approx(math.sqrt(2 + 3 * 1 + 3 * 4))


@pytest.mark.mpi
@pytest.mark.parametrize("level", [1, 3])
def test_processes_raise_together_and_go_on(on_ranks: OnRanks, level: int) -> None:
    def body(comm: Communicator) -> None:
        policy = policy_of(level, clip=Clip(norm=0.5))
        manager, parameters = make_manager(comm, policy)
        gradients = gradients_of(comm.rank)
        if comm.rank == comm.size - 1:
            gradients["c"][3] = np.nan
        message = ""
        try:
            manager.update(gradients)
        except NonFiniteGradient as error:
            message = str(error)
        ok = f"'c' from rank {comm.size - 1} is not finite at element 3" in message
        manager.update(gradients_of(comm.rank))
        expected, _ = clipped(mean_gradients(comm.size), Clip(norm=0.5), {})
        values = values_of(manager, parameters)
        ok &= all(np.allclose(values[n], 1 - expected[n], atol=1e-6) for n in values)
        manager.close()
        assert_on_all_ranks(comm, ok, message)

    on_ranks(body)
