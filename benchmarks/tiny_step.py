"""One training step of a 64-128-10 network at batch 32: what the library itself costs.

The arithmetic of such a step is a few microseconds, so the figure is the price of the
tape, the manager and the calls into NumPy. One rank, hence no MPI.
"""

import importlib.util
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
    contestants: dict[str, Callable[[], object]] = {}
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
