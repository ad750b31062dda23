"""One training step of a 64-128-10 network at batch 32: what the library itself costs.

The arithmetic of such a step is a few microseconds, so the figure is the price of the
tape, the manager and the calls into NumPy. One rank, hence no MPI.
"""

import importlib.util
import itertools
from collections.abc import Callable

import numpy as np
import typer
from threadpoolctl import threadpool_limits

from benchmarks.measure import environment, interleave, table

BATCH, INPUTS, HIDDEN, CLASSES = 32, 64, 128, 10


def our_step(optimizer_name: str) -> Callable[[], float]:
    """Return a step of this package's manager."""
    import parallel_params as pp
    from parallel_params import nn, ops, optim

    images, labels = _batch()
    net = nn.SequentialCell(
        nn.Dense(INPUTS, HIDDEN, activation="relu"), nn.Dense(HIDDEN, CLASSES)
    )
    bound = {
        "adamw": lambda: optim.AdamW(net.trainable_params(), 1e-3, weight_decay=0.01),
        "sgd": lambda: optim.SGD(net.trainable_params(), 1e-2, momentum=0.9),
    }[optimizer_name]()
    manager = pp.ParameterManager(net, bound)

    def loss_fn(x: pp.Tensor, y: pp.Tensor) -> pp.Tensor:
        return ops.cross_entropy(net(x), y)

    return lambda: float(manager.step(loss_fn, images, labels))


def bare_step() -> Callable[[], float]:
    """Return the same arithmetic as calls of NumPy in a row: what no library can beat.

    No tape, no checks, nothing allocated that could be kept; AdamW by our rule.
    """
    from parallel_params.optim import AdamWRule
    from parallel_params.tensor import softmax_kernels

    x, labels = _batch()
    rng = np.random.default_rng(1)
    sizes = HIDDEN * INPUTS, HIDDEN, CLASSES * HIDDEN, CLASSES
    weight = rng.standard_normal(sum(sizes), np.float32) / 10
    gradient, zeros = np.zeros_like(weight), np.zeros((BATCH, HIDDEN), np.float32)
    state = {"moment1": np.zeros_like(weight), "moment2": np.zeros_like(weight)}
    cuts = np.cumsum(sizes)[:-1]
    w1, b1, w2, b2 = np.split(weight, cuts)
    dw1, db1, dw2, db2 = np.split(gradient, cuts)
    w1, dw1 = w1.reshape(HIDDEN, INPUTS), dw1.reshape(HIDDEN, INPUTS)
    w2, dw2 = w2.reshape(CLASSES, HIDDEN), dw2.reshape(CLASSES, HIDDEN)
    rule, steps = AdamWRule(), itertools.count(1)
    hidden, grad_hidden = np.empty_like(zeros), np.empty_like(zeros)
    logits = np.empty((BATCH, CLASSES), np.float32)
    grad = np.empty_like(logits)

    def step() -> float:
        np.matmul(x, w1.T, out=hidden)
        np.add(hidden, b1, hidden)
        np.maximum(hidden, zeros, out=hidden)
        np.matmul(hidden, w2.T, out=logits)
        np.add(logits, b2, logits)
        losses = softmax_kernels.cross_entropy(logits, labels, grad, 1 / BATCH)
        np.matmul(grad.T, hidden, out=dw2)
        np.add.reduce(grad, 0, out=db2)
        np.matmul(grad, w2, out=grad_hidden)
        mask = np.greater(hidden, zeros).astype(np.float32)
        np.multiply(grad_hidden, mask, grad_hidden)
        np.matmul(grad_hidden.T, x, out=dw1)
        np.add.reduce(grad_hidden, 0, out=db1)
        rule.update(
            weight,
            gradient,
            state,
            step=next(steps),
            learning_rate=1e-3,
            weight_decay=0.01,
        )
        return float(np.add.reduce(losses)) / BATCH

    return step


def torch_step(optimizer_name: str, *, fused: bool) -> Callable[[], float]:
    """Return the same step of PyTorch."""
    import torch

    torch.set_num_threads(1)
    images, labels = (torch.from_numpy(array) for array in _batch())
    net = torch.nn.Sequential(
        torch.nn.Linear(INPUTS, HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, CLASSES),
    )
    optimizer = {
        "adamw": lambda: torch.optim.AdamW(net.parameters(), 1e-3, fused=fused),
        "sgd": lambda: torch.optim.SGD(
            net.parameters(), 1e-2, momentum=0.9, fused=fused
        ),
    }[optimizer_name]()

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.random((BATCH, INPUTS), dtype=np.float32)
    return images, rng.integers(0, CLASSES, BATCH)


def main(
    rounds: int = typer.Option(15, help="Timings of each contestant."),
    calls: int = typer.Option(300, help="Steps per timing."),
) -> None:
    """Time one step of 64-128-10 at batch 32, beside PyTorch if it is installed."""
    contestants: dict[str, Callable[[], object]] = {"bare NumPy adamw": bare_step()}
    has_torch = importlib.util.find_spec("torch") is not None
    for name in ("adamw", "sgd"):
        contestants[f"parallel_params {name}"] = our_step(name)
        if has_torch:
            contestants[f"torch {name} (default)"] = torch_step(name, fused=False)
            contestants[f"torch {name} (fused)"] = torch_step(name, fused=True)
    with threadpool_limits(1):
        seconds = interleave(contestants, num_rounds=rounds, num_calls=calls)
        print(f"one step 64-128-10, batch 32, one rank; {environment()}")
    print(table(seconds, reference="parallel_params adamw"))
