"""The promise: one set of weights, whatever the world, the level and the buckets."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, train

from parallel_params import nn, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.guards import Clip
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.dtype import float32, float64
from parallel_params.tensor.tensor import Tensor

GRAINS = 4
OPTIMIZERS: dict[str, Callable[[nn.Cell], Optimizer]] = {
    "sgd": lambda net: optim.SGD(net.trainable_params(), 0.1, momentum=0.9),
    "momentum": lambda net: optim.Momentum(net.trainable_params(), 0.1, 0.9),
    "adam": lambda net: optim.Adam(net.trainable_params(), 0.01),
    "adamweightdecay": lambda net: optim.AdamWeightDecay(
        net.trainable_params(), 0.01, weight_decay=0.1
    ),
    "adamw": adamw,
}


def policy_of(level: int, bucket_bytes: int = 4 << 20) -> Policy:
    """Return a policy that shards everything, however small."""
    return Policy(
        level=Level(level),
        grains=GRAINS,
        shard_threshold_bytes=0,
        bucket_bytes=bucket_bytes,
        alignment=1,
    )


@pytest.fixture(scope="module", params=OPTIMIZERS)
def reference(request: pytest.FixtureRequest) -> tuple[str, str, list[float]]:
    """Train on one rank at level 0; return the optimizer's name, hash and losses."""

    def body(comm: Communicator) -> tuple[str, list[float]]:
        manager, losses = train(comm, policy_of(0), optimizer=OPTIMIZERS[request.param])
        return manager.weights_hash(), losses

    return (request.param, *run_threads(1, body)[0])


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_weights_and_losses_have_the_bits_of_one_rank(
    reference: tuple[str, str, list[float]], num_ranks: int, level: int
) -> None:
    name, expected_hash, expected_losses = reference

    def body(comm: Communicator) -> tuple[str, list[float]]:
        manager, losses = train(comm, policy_of(level), optimizer=OPTIMIZERS[name])
        return manager.weights_hash(), losses

    assert (
        run_threads(num_ranks, body) == [(expected_hash, expected_losses)] * num_ranks
    )


@pytest.mark.parametrize("bucket_bytes", [1, 100, 4 << 20])
def test_buckets_do_not_change_a_bit(bucket_bytes: int) -> None:
    def body(comm: Communicator) -> str:
        return train(comm, policy_of(1, bucket_bytes))[0].weights_hash()

    assert len(set(run_threads(2, body))) == 1
    assert run_threads(2, body)[0] == run_threads(1, body)[0]


@pytest.mark.mpi
def test_processes_have_the_bits_of_one_thread(on_ranks: OnRanks) -> None:
    def one_rank(comm: Communicator) -> str:
        return train(comm, policy_of(0))[0].weights_hash()

    def body(comm: Communicator) -> None:
        if GRAINS % comm.size:
            return
        hashes = {
            level: train(comm, policy_of(level))[0].weights_hash() for level in range(4)
        }
        expected = run_threads(1, one_rank)[0]
        assert_on_all_ranks(comm, set(hashes.values()) == {expected}, str(hashes))

    on_ranks(body)


def test_another_number_of_grains_gives_other_bits() -> None:
    """Else the equalities above would hold for any order of sums."""

    def body(comm: Communicator) -> str:
        policy = Policy(grains=8, shard_threshold_bytes=0)
        return train(comm, policy)[0].weights_hash()

    other = run_threads(1, body)[0]
    assert (
        other
        != run_threads(1, lambda comm: train(comm, policy_of(1))[0].weights_hash())[0]
    )


def test_the_bits_of_a_norm_do_not_depend_on_buckets_and_levels() -> None:
    rng = np.random.default_rng(1)
    gradients = {f"p{i}": rng.standard_normal(3) for i in range(13)}

    def norm(bucket_bytes: int, override: Mapping[str, int]) -> float:
        # Types alternate, so buckets close in another order than they are declared.
        parameters = [
            Parameter(Tensor(np.zeros(3), (float32, float64)[i % 2]), name=name)
            for i, name in enumerate(gradients)
        ]
        policy = replace(
            policy_of(1, bucket_bytes), clip=Clip(norm=1.0), override=override
        )
        optimizer = optim.SGD(parameters, 1.0)
        with ParameterManager(parameters, optimizer, policy=policy) as manager:
            manager.update({name: g * 3 for name, g in gradients.items()})
            return manager.gradient_norms[""]

    expected = norm(1, {})
    assert norm(40, {}) == norm(1 << 20, {}) == expected
    assert norm(1 << 20, {"p3": 0, "p[5-8]": 2}) == expected
