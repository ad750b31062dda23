"""Activations die while backward goes, and steps leave nothing behind."""

import gc
import tracemalloc
import weakref

import numpy as np

from parallel_params import nn, ops, optim
from parallel_params.manager import ParameterManager
from parallel_params.plan.policy import Policy
from parallel_params.tensor import Tensor, random
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.frame import Frame
from parallel_params.tensor.tape import Array

NUM_OPERATORS = 20
# What some dozens of steps may add: interned numbers, grown lists. A leaked activation
# or closure per step would be far more.
SLACK_BYTES = 16 << 10


def test_activations_die_while_backward_goes() -> None:
    x = Tensor(np.ones(64))
    kept: list[weakref.ref[Array]] = []
    alive: list[int] = []

    def count() -> None:
        alive.append(sum(ref() is not None for ref in kept))

    with Frame((x,)) as frame:
        y = x
        for _ in range(NUM_OPERATORS):
            y = ops.exp(ops.neg(y))
            kept.append(weakref.ref(y.asnumpy()))
        loss = y.sum()
        del y
        for left in range(0, 2 * NUM_OPERATORS, 2):
            frame.at(left, count)
        frame.sweep(loss, Tensor(1.0, dtypes.float64))
    # Each mark comes when one more of the results has been differentiated.
    assert alive == [*range(NUM_OPERATORS - 1, -1, -1)]


def make_manager() -> tuple[nn.Cell, ParameterManager]:
    """Return a net of every kind of layer that keeps or draws something."""
    random.set_seed(0)
    block = nn.SequentialCell(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    block.recompute()
    net = nn.SequentialCell(
        block, nn.MaxPool2d(2, 2), nn.Flatten(), nn.Dropout(p=0.2), nn.Dense(16, 3)
    ).set_train()
    optimizer = optim.AdamW(net.trainable_params(), 1e-3)
    return net, ParameterManager(net, optimizer, policy=Policy(grains=2))


def test_steps_leave_nothing_behind() -> None:
    net, manager = make_manager()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 2, 4, 4), np.float32)
    labels = rng.integers(0, 3, 8)

    def steps(count: int) -> tuple[int, int]:
        for _ in range(count):
            manager.step(lambda x, y: ops.cross_entropy(net(x), y), x, labels)
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

    tracemalloc.start()
    try:
        steps(10)
        before_bytes, before_objects = steps(10)
        after_bytes, after_objects = steps(60)
    finally:
        tracemalloc.stop()
    assert after_bytes - before_bytes < SLACK_BYTES
    assert after_objects - before_objects < 100


def test_plain_training_leaves_no_cycle_for_the_collector() -> None:
    """Nodes and closures go when the last name of the loss does."""
    net, _ = make_manager()
    x = Tensor(np.random.default_rng(0).standard_normal((8, 2, 4, 4), np.float32))
    net = nn.SequentialCell(*net.cells())
    gc.collect()
    gc.disable()
    try:
        watched = weakref.ref(x)
        loss = net(x * 1.0).sum()
        loss.backward()
        del loss, x
        assert watched() is None
    finally:
        gc.enable()
