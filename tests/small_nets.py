"""Nets, batches and losses that tests of the manager share; small and seeded."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from parallel_params import nn, ops, optim
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.policy import Policy
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tensor import Tensor

INPUTS, HIDDEN, CLASSES = 7, 13, 3
OptimizerFactory = Callable[[nn.Cell], Optimizer]


def make_net(seed: int = 1) -> nn.Cell:
    """Return a net of two layers whose sizes nothing divides."""
    set_seed(seed)
    return nn.SequentialCell(
        nn.Dense(INPUTS, HIDDEN, activation="tanh"), nn.Dense(HIDDEN, CLASSES)
    )


def global_batch(
    size: int, step: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return `size` samples and their labels, a function of the step."""
    rng = np.random.default_rng(step)
    return (
        rng.standard_normal((size, INPUTS), dtype=np.float32),
        rng.integers(0, CLASSES, size),
    )


def share_of(
    comm: Communicator, *arrays: NDArray[np.generic]
) -> list[NDArray[np.generic]]:
    """Return this rank's part of a global batch."""
    return [np.array_split(array, comm.size)[comm.rank] for array in arrays]


def loss_of(net: nn.Cell) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean cross-entropy of a net."""
    return lambda x, y: ops.cross_entropy(net(x), y)


def adamw(net: nn.Cell) -> Optimizer:
    """Return AdamW over all trainable parameters."""
    return optim.AdamW(net.trainable_params(), 0.01, weight_decay=0.1)


def train(
    comm: Communicator,
    policy: Policy,
    *,
    num_steps: int = 3,
    batch: int = 8,
    optimizer: OptimizerFactory = adamw,
) -> tuple[ParameterManager, list[float]]:
    """Train `make_net` for some steps; return its manager and the losses."""
    net = make_net()
    manager = ParameterManager(net, optimizer(net), policy=policy, comm=comm)
    losses = [
        float(manager.step(loss_of(net), *share_of(comm, *global_batch(batch, step))))
        for step in range(num_steps)
    ]
    return manager, losses
