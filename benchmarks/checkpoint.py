"""Saving and loading a checkpoint, against dd with fsync and a plain read."""

import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import typer

from benchmarks.checkpoint_rank import forget_pages
from benchmarks.measure import environment
from benchmarks.worlds import Contestant, World


def seconds_of(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def _read(files: list[str]) -> float:
    """Read files one after the other into one buffer, as plainly as can be."""
    buffer = bytearray(4 << 20)
    start = time.perf_counter()
    for name in files:
        with open(name, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - start


def main(
    ranks: int = typer.Option(2, "-n", help="Ranks of the world."),
    mebibytes: int = typer.Option(1024, "--mib", help="Weights and state together."),
    rounds: int = typer.Option(3, help="Saves and loads."),
    layout: str = typer.Option("one", help="Of the files: one or shards."),
    folder: str = typer.Option(".", help="A folder on the disk in question."),
) -> None:
    """Time saves and loads, and what dd reaches on the same disk in the same run."""
    print(f"{mebibytes} MiB on {ranks} ranks, layout {layout}; {environment()}")
    place = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=folder)).resolve()
    saver = Contestant(
        name="saver",
        target="benchmarks.checkpoint_rank:Saver",
        arguments={"mebibytes": mebibytes, "layout": layout},
    )
    figures: dict[str, list[float]] = {}
    growth: dict[str, list[float]] = {"save": [], "load": []}
    try:
        with World(saver, num_ranks=ranks) as world:
            for number in range(rounds):
                saved, plain = place / str(number), place / "plain"
                write = f"count={mebibytes}", "bs=1M", "conv=fsync"
                took = {"dd": seconds_of("dd", "if=/dev/zero", f"of={plain}", *write)}
                for method in ("save", "load"):
                    forget_pages(saved) if method == "load" else None
                    answers = world.ask(tuple, method, str(saved))
                    took[method] = max(each[0] for each in answers)
                    growth[method].append(max(each[1] for each in answers) / 2**20)
                forget_pages(saved)
                files = sorted(map(str, saved.glob("*.safetensors")))
                took["read"] = _read(files)
                for name, seconds in took.items():
                    figures.setdefault(name, []).append(seconds)
                shutil.rmtree(saved)
                plain.unlink()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for name, rival in (("save", "dd"), ("load", "read")):
        ours, theirs = (
            statistics.median(figures[name]),
            statistics.median(figures[rival]),
        )
        print(
            f"{name}: {ours:.2f} s, {mebibytes / ours:.0f} MiB/s, "
            f"{theirs / ours:.2f}x of {rival}'s {theirs:.2f} s; memory grew by "
            f"{', '.join(f'{each:.1f}' for each in growth[name])} MiB at most per rank"
        )
