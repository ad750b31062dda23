"""A run whose plan changes has the bits of a run whose plan does not."""

from dataclasses import replace

import pytest
from odd_nets import OPTIMIZERS, OddNet, policy_of
from small_nets import global_batch, loss_of, share_of

from parallel_params import nn
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy, Transport

GRAINS = BATCH = 4
Way = tuple[Transport, int | None]
WAYS: tuple[Way, ...] = (("window", None), ("window", 2), ("messages", None))
LEVELS = (0, 3, 1, 2, 3)


def manage(
    comm: Communicator, name: str, policy: Policy, per_node: int | None = None
) -> tuple[nn.Cell, ParameterManager]:
    """Return an `OddNet` and its manager."""
    net = OddNet()
    mesh = Mesh(data=comm.size, ranks_per_node=per_node)
    optimizer = OPTIMIZERS[name](net)
    return net, ParameterManager(net, optimizer, comm=comm, policy=policy, mesh=mesh)


def step(comm: Communicator, net: nn.Cell, manager: ParameterManager, k: int) -> None:
    """Take the k-th step."""
    manager.step(loss_of(net), *share_of(comm, *global_batch(BATCH, k)))


@pytest.fixture(scope="module")
def references() -> dict[str, list[str]]:
    """Train on one rank at level 0; hash after every step."""

    def body(comm: Communicator) -> dict[str, list[str]]:
        hashes: dict[str, list[str]] = {}
        for name in OPTIMIZERS:
            net, manager = manage(comm, name, policy_of(0, grains=GRAINS))
            hashes[name] = []
            for k in range(len(LEVELS) + 1):
                step(comm, net, manager, k)
                hashes[name].append(manager.weights_hash())
        return hashes

    return run_threads(1, body)[0]


@pytest.mark.parametrize(
    ("num_ranks", "way"), [(1, WAYS[0]), (2, WAYS[2]), *((4, way) for way in WAYS)]
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_changes_its_level_has_the_bits_of_one_that_does_not(
    references: dict[str, list[str]], name: str, num_ranks: int, way: Way
) -> None:
    transport, per_node = way

    def body(comm: Communicator) -> list[str]:
        policy = policy_of(1, grains=GRAINS, transport=transport)
        net, manager = manage(comm, name, policy, per_node)
        hashes = []
        for k, level in enumerate(LEVELS):
            step(comm, net, manager, k)
            before = manager.weights_hash()
            # Other buckets, too: a move has to find the pieces in other places.
            manager.replan(
                policy=replace(policy, level=Level(level), bucket_bytes=100 + 90 * k)
            )
            assert manager.weights_hash() == before
            hashes.append(before)
        step(comm, net, manager, len(LEVELS))
        return [*hashes, manager.weights_hash()]

    assert run_threads(num_ranks, body) == [references[name]] * num_ranks


def test_transports_and_nodes_may_change(references: dict[str, list[str]]) -> None:
    def body(comm: Communicator) -> list[str]:
        net, manager = manage(comm, "adamw", policy_of(3, grains=GRAINS))
        hashes = []
        for k, (transport, per_node) in enumerate((*WAYS, *WAYS[::-1])):
            step(comm, net, manager, k)
            hashes.append(manager.weights_hash())
            policy = policy_of(3 - k % 2, grains=GRAINS, transport=transport)
            manager.replan(policy=policy, mesh=Mesh(data=4, ranks_per_node=per_node))
        return hashes

    assert run_threads(4, body) == [references["adamw"][: 2 * len(WAYS)]] * 4


def test_flags_that_only_place_a_parameter_change_no_bit(
    references: dict[str, list[str]],
) -> None:
    def body(comm: Communicator, name: str, level: int, transport: Transport) -> bool:
        policy = policy_of(level, grains=GRAINS, transport=transport)
        net, manager = manage(comm, name, policy)
        hashes = []
        for k in range(4):
            step(comm, net, manager, k)
            hashes.append(manager.weights_hash())
            for i, parameter in enumerate(net.get_parameters()):
                parameter.parallel_optimizer = bool((i + k) % 3)
                parameter.comm_fusion = (i * k) % 4
            manager.replan()
        return hashes == references[name][:4]

    ways: tuple[tuple[str, int, Transport], ...] = (
        ("lamb", 1, "window"),
        ("muon", 2, "messages"),
        ("adafactor", 3, "messages"),
    )
    for way in ways:
        verdicts = run_threads(4, lambda comm, way=way: body(comm, *way))  # type: ignore[misc]
        assert all(verdicts), way
