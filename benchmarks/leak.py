"""Ten thousand steps of a net with a layer of every kind: does memory grow?

Prints what the process holds after every tenth of the steps, and the page faults per
step since the last line. Exits with 1 if the last nine tenths added more than a MiB.
"""

import resource
from pathlib import Path

import numpy as np
import typer

from benchmarks.measure import environment
from parallel_params import nn, ops, optim
from parallel_params.manager import ParameterManager
from parallel_params.plan.policy import Policy
from parallel_params.tensor.random import set_seed

ALLOWED_BYTES = 1 << 20


def main(
    steps: int = typer.Option(10_000, help="How many."),
    batch: int = typer.Option(8, help="Samples per step."),
) -> None:
    """Train one small convolutional net for long, and watch its memory."""
    print(f"{steps} steps of {batch} samples; {environment()}")
    net, manager = _make()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, 2, 8, 8), np.float32)
    labels = rng.integers(0, 3, batch)
    held: list[int] = []
    for tenth in range(10):
        faults = _num_faults()
        for _ in range(steps // 10):
            manager.step(lambda x, y: ops.cross_entropy(net(x), y), images, labels)
        held.append(_resident_bytes())
        per_step = (_num_faults() - faults) / max(1, steps // 10)
        print(
            f"step {(tenth + 1) * (steps // 10):6d}: {held[-1] / 2**20:7.2f} MiB held, "
            f"{per_step:.1f} page faults a step"
        )
    if held[-1] - held[0] > ALLOWED_BYTES:
        raise typer.Exit(1)


def _make() -> tuple[nn.Cell, ParameterManager]:
    set_seed(0)
    block = nn.SequentialCell(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    block.recompute()
    net = nn.SequentialCell(
        block, nn.MaxPool2d(2, 2), nn.Flatten(), nn.Dropout(p=0.2), nn.Dense(64, 3)
    ).set_train()
    optimizer = optim.AdamW(net.trainable_params(), 1e-3)
    return net, ParameterManager(net, optimizer, policy=Policy(grains=2))


def _num_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _resident_bytes() -> int:
    num_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return num_pages * resource.getpagesize()
