"""The same networks, weights and batches in this package and in PyTorch, side by side.

Every contestant is a world of its own, and one at a time takes some steps, round by
round. What the machine could do is measured in the same minutes: the rate of a large
product in each library's BLAS, and of an addition in place that streams from memory.
"""

import importlib.util
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from benchmarks.contestants import NAMES_HELP, contestants, numbers_of, started
from benchmarks.measure import blas_variables
from benchmarks.messages import Usage
from benchmarks.models import MODELS, Model, product_flops
from benchmarks.rank_steps import fastest_gflops
from benchmarks.step import (
    AGREEMENT,
    NUM_WARM,
    Taken,
    build_all,
    largest_difference,
    run_rounds,
)
from benchmarks.worlds import World

ALONE = "level-0,level-0-numba,torch-fused,torch-default"
TOGETHER = "level-1,level-1-numba,torch-ddp,torch-ddp-zero,torch-fsdp2"
STREAM_NUMEL = 1 << 24  # 64 MB of float32: past any cache
ADAMW_BYTES = 28  # read weight, gradient and two moments, write all but the gradient
HEAD = (
    "| | ms (best) | speed | of the limit | in products | page faults | peak MB |\n"
    "|---|---|---|---|---|---|---|"
)
INSTALL = (
    "PyTorch is not installed here. This compares with its CPU build:\n"
    "    pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the machine can do.

    Attributes:
        gflops: of a large product, by contestant: of its own BLAS.
        gbytes: that an addition in place moves in a second, in 10^9 bytes.
    """

    gflops: Mapping[str, float]
    gbytes: float

    def seconds(self, name: str, model: Model, batch: int, num_elements: int) -> float:
        """Return what products and the optimizer's traffic take at these rates."""
        products = product_flops(model, batch) / self.gflops[name] / 1e9
        return products + ADAMW_BYTES * num_elements / self.gbytes / 1e9


def stream_gbytes() -> float:
    """Measure an addition in place from memory, in 10^9 bytes a second."""
    total = np.zeros(STREAM_NUMEL, np.float32)
    other = np.ones_like(total)
    moved = 3.0 * total.nbytes
    return fastest_gflops(lambda: np.add(total, other, total), moved)


def measure_limits(worlds: Mapping[str, World]) -> Limits:
    """Ask every contestant what its BLAS does, one at a time."""
    rates = {name: max(world.ask(float, "gflops")) for name, world in worlds.items()}
    return Limits(gflops=rates, gbytes=stream_gbytes())


def _better(first: Limits, second: Limits) -> Limits:
    rates = {name: max(first.gflops[name], r) for name, r in second.gflops.items()}
    return Limits(gflops=rates, gbytes=max(first.gbytes, second.gbytes))


def rows_of(
    taken: Mapping[str, Taken],
    *,
    reference: str,
    limits: Limits,
    peaks: Mapping[str, float],
    model: Model,
    batch: int,
    num_elements: int,
) -> list[str]:
    """Write a row of the table for each contestant.

    Args:
        taken: what each measured.
        reference: whose speed is 1.
        limits: of this machine.
        peaks: memory over that before the model, in bytes.
        model: that was trained.
        batch: samples of a rank.
        num_elements: of all parameters.
    """
    base = statistics.median(taken[reference].seconds)
    rows = []
    for name, each in taken.items():
        median = statistics.median(each.seconds)
        least = limits.seconds(name, model, batch, num_elements)
        products = product_flops(model, batch) / limits.gflops[name] / 1e9
        rows.append(
            f"| {name} | {_ms(median)} ({_ms(min(each.seconds))}) "
            f"| {base / median:.2f}x | {least / median:.0%} | {products / median:.0%} "
            f"| {each.num_faults:.0f} | {peaks[name] / 1e6:.0f} |"
        )
    return rows


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}" if seconds < 0.01 else f"{seconds * 1e3:.1f}"


def compare(
    model: Model, *, names: str, num_ranks: int, num_rounds: int
) -> tuple[list[str], bool]:
    """Measure one network on one number of ranks.

    Returns:
        Lines of markdown, and whether the losses agree.
    """
    chosen = contestants(names, model=model.name, batch_sizes=[model.batch])
    with started(chosen, num_ranks=num_ranks) as worlds:
        base = {name: _memory(world, "now_bytes") for name, world in worlds.items()}
        num_elements, environments = build_all(worlds)
        limits = measure_limits(worlds)
        taken = run_rounds(
            worlds, num_rounds=num_rounds, num_steps=model.num_steps, batch=model.batch
        )
        limits = _better(limits, measure_limits(worlds))
        peaks = {n: _memory(w, "peak_bytes") - base[n] for n, w in worlds.items()}
    reference = next(
        name for name in (*taken, "") if name.startswith("torch") or not name
    )
    losses = {name: each.losses for name, each in taken.items()}
    number = min(10, num_rounds * (NUM_WARM + model.num_steps))
    apart = largest_difference(losses, number)
    is_agreed = apart <= AGREEMENT
    rows = rows_of(
        taken,
        reference=reference or next(iter(taken)),
        limits=limits,
        peaks=peaks,
        model=model,
        batch=model.batch,
        num_elements=num_elements,
    )
    ranks = "1 rank" if num_ranks == 1 else f"{num_ranks} ranks"
    count = f"{num_elements:,}".replace(",", " ")
    title = f"**{model.text}, {ranks}**, {count} parameters"
    lines = [title, "", HEAD, *rows, "", *_facts(limits, environments, apart)]
    return lines, is_agreed


def _facts(limits: Limits, environments: Mapping[str, str], apart: float) -> list[str]:
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in limits.gflops.items())
    return [
        f"Products reach {rates} GFLOP/s; memory {limits.gbytes:.0f} GB/s. Losses of "
        f"the first steps are at most {apart:.1e} of the first apart.",
        "",
        *(f"- {name}: {text}" for name, text in environments.items()),
        "",
    ]


def _memory(world: World, field: str) -> float:
    return max(getattr(usage, field) for usage in world.ask(Usage, "memory"))


def main(
    models: str = typer.Option(",".join(MODELS), help="Which networks, in turn."),
    ranks: str = typer.Option("1", "-n", help="Numbers of ranks, like 1,2."),
    rounds: int = typer.Option(7, help="Turns of each contestant."),
    names: str = typer.Option(
        "", "--contestants", help=f"By default what is fair. {NAMES_HELP}"
    ),
    write: str = typer.Option("", help="Markdown file for the tables."),
) -> None:
    """Time whole training steps beside PyTorch's fastest, and beside the machine."""
    unknown = [name for name in models.split(",") if name not in MODELS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(MODELS)}")
    if importlib.util.find_spec("torch") is None:
        print(INSTALL)
        raise typer.Exit(1)
    pages = [f"AdamW, one thread a rank; {blas_variables()}", ""]
    print(pages[0], flush=True)
    is_agreed = True
    for name in models.split(","):
        for number in numbers_of(ranks):
            lines, agrees = compare(
                MODELS[name],
                names=names or (ALONE if number == 1 else TOGETHER),
                num_ranks=number,
                num_rounds=rounds,
            )
            print("\n".join(["", *lines]), flush=True)
            pages += lines
            is_agreed = is_agreed and agrees
    if write:
        Path(write).write_text("\n".join(pages), encoding="utf-8")
    if not is_agreed:
        print(f"LOSSES DISAGREE by more than {AGREEMENT:.0e} of the first")
    raise typer.Exit(not is_agreed)
