"""Memory of a rank that trains an MLP, over that of the process before the model.

PSS: what is shared counts once, divided among those who share it. One world at a time,
because worlds share the pages of libraries. Allocators keep much of what was freed, so
the last figure is taken after they were told to give it back.
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from benchmarks.contestants import (
    DEFAULT,
    MLP,
    MODEL_HELP,
    NAMES_HELP,
    contestants,
    numbers_of,
)
from benchmarks.measure import blas_variables
from benchmarks.messages import Built, Ran
from benchmarks.worlds import Contestant, ContestantFailed, World

MB = 1e6
NUM_STEPS = 6
PAUSE_S = 0.002


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process.

    Source: Linux, Documentation/filesystems/proc.rst, smaps_rollup.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} has no PSS")


class Peak:
    """Watches processes and keeps the largest PSS of each that it has seen."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.bytes_seen = dict.fromkeys(pids, 0)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.is_set():
            for pid, seen in self.bytes_seen.items():
                self.bytes_seen[pid] = max(seen, pss_bytes(pid))
            time.sleep(PAUSE_S)


def formula_bytes(
    level: int, *, num_elements: int, num_ranks: int, bucket_bytes: int
) -> float:
    """Return what float32 weights, gradients and two moments take on one node.

    Args:
        level: 1, or 2 and 3, which on one node are the same.
        num_elements: n, of all parameters.
        num_ranks: P, which share the weights.
        bucket_bytes: of the largest bucket.
    """
    cut = 4.0 * num_elements / num_ranks
    gradient = 4.0 * num_elements if level < 2 else cut + 2 * bucket_bytes
    return cut + gradient + 2 * cut


def measure(world: World, batch_sizes: Sequence[int]) -> tuple[Built, list[float]]:
    """Build and train in one world.

    Returns:
        What was built, and bytes over the base on the rank with most: for each size of
        the batch, after the steps and the largest seen during them; and at the end
        without what the allocator keeps of freed memory.
    """
    pids = world.ask(int, "pid")
    base = {pid: pss_bytes(pid) for pid in pids}
    built = world.ask(Built, "build")[0]
    figures: list[float] = []
    for turn, batch in enumerate(batch_sizes):
        with Peak(pids) as peak:
            world.ask(Ran, "run", turn * NUM_STEPS, NUM_STEPS, batch)
        figures.append(max(pss_bytes(pid) - base[pid] for pid in pids))
        figures.append(max(peak.bytes_seen[pid] - base[pid] for pid in pids))
    world.ask(bool, "trim")
    figures.append(max(pss_bytes(pid) - base[pid] for pid in pids))
    return built, figures


def _row(contestant: Contestant, built: Built, num_ranks: int) -> list[str]:
    """Write what the formula and the plan say of one of ours."""
    if built.planned_bytes is None:
        return ["", ""]
    formula = ""
    policy = contestant.arguments["policy"]
    if isinstance(policy, dict) and policy["level"] and "transport" not in policy:
        due = formula_bytes(
            policy["level"],
            num_elements=built.num_elements,
            num_ranks=num_ranks,
            bucket_bytes=built.largest_bucket_bytes,
        )
        formula = f"{due / MB:.1f}"
    return [formula, f"{built.planned_bytes / MB:.1f}"]


def main(
    ranks: int = typer.Option(2, "-n", help="Ranks of each world."),
    batch: str = typer.Option("4,64", help="Samples of each rank; one turn of each."),
    model: str = typer.Option(MLP, "--model", "--widths", help=MODEL_HELP),
    names: str = typer.Option(DEFAULT, "--contestants", help=NAMES_HELP),
) -> None:
    """Measure memory per rank over that of the process, beside PyTorch's."""
    sizes = numbers_of(batch)
    print(f"training {model} with AdamW on {ranks} ranks; {blas_variables()}")
    print("MB of PSS on the largest rank over the process before the model")
    head = [f"{what} {size}" for size in sizes for what in ("batch", "peak")]
    head = [*head, "trimmed", "formula", "plan"]
    print(f"{'':20}" + "".join(f"{title:>10}" for title in head), flush=True)
    has_failed = False
    for contestant in contestants(names, model=model, batch_sizes=list(sizes)):
        try:
            with World(contestant, num_ranks=ranks) as world:
                built, figures = measure(world, sizes)
        except ContestantFailed as failure:
            print(f"{failure}\n")
            has_failed = True
            continue
        cells = [f"{figure / MB:.1f}" for figure in figures]
        cells += _row(contestant, built, ranks)
        print(f"{contestant.name:20}" + "".join(f"{c:>10}" for c in cells), flush=True)
    raise typer.Exit(has_failed)
