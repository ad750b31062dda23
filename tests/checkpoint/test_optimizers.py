"""Every optimizer goes on from its checkpoint as if it had never stopped."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from odd_nets import policy_of
from small_nets import global_batch, loss_of, make_net, share_of

from parallel_params import nn, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer

GRAINS = BATCH = 4


def matrices_of(net: nn.Cell) -> list[Parameter]:
    return [p for p in net.trainable_params() if len(p.shape) == 2]


# Those that are not made of parameters and a rate.
OTHERS: dict[str, Callable[[nn.Cell], Optimizer]] = {
    "Momentum": lambda net: optim.Momentum(net.trainable_params(), 0.1, 0.9),
    "LARS": lambda net: optim.LARS(optim.Momentum(net.trainable_params(), 0.1, 0.9)),
    "EMA": lambda net: optim.EMA(optim.AdamW(net.trainable_params(), 0.01)),
    "AdaFactor": lambda net: optim.AdaFactor(net.trainable_params()),
    "Muon": lambda net: optim.Muon(matrices_of(net), 0.02),
    "SOAP": lambda net: optim.SOAP(matrices_of(net), 0.01),
}
NAMES = [
    name
    for name in optim.__all__
    if inspect.isclass(getattr(optim, name))
    and issubclass(getattr(optim, name), Optimizer)
    and name != "Optimizer"
]


def make_manager(
    comm: Communicator, name: str, level: int, seed: int
) -> tuple[ParameterManager, nn.Cell]:
    net = make_net(seed)
    if name in OTHERS:
        optimizer = OTHERS[name](net)
    else:
        optimizer = getattr(optim, name)(net.trainable_params(), 0.01)
    policy = policy_of(level, grains=GRAINS, bucket_bytes=1 << 20)
    return ParameterManager(net, optimizer, comm=comm, policy=policy), net


def take_steps(manager: ParameterManager, net: nn.Cell, start: int, stop: int) -> None:
    for step in range(start, stop):
        manager.step(loss_of(net), *share_of(manager.comm, *global_batch(BATCH, step)))


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_goes_on_with_its_bits(name: str, tmp_path: Path) -> None:
    def whole(comm: Communicator) -> str:
        manager, net = make_manager(comm, name, 0, seed=1)
        take_steps(manager, net, 0, 4)
        return manager.weights_hash()

    def save(comm: Communicator) -> None:
        manager, net = make_manager(comm, name, 2, seed=1)
        take_steps(manager, net, 0, 2)
        manager.save(tmp_path / "saved")

    def go_on(comm: Communicator) -> str:
        manager, net = make_manager(comm, name, 1, seed=9)
        assert manager.load(tmp_path / "saved").notes == ()
        take_steps(manager, net, 2, 4)
        return manager.weights_hash()

    expected = run_threads(1, whole)
    run_threads(2, save)
    assert run_threads(1, go_on) == expected
