"""Saving and loading a checkpoint, against dd with fsync and a plain read."""

import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import typer

from benchmarks.checkpoint_rank import forget_pages
from benchmarks.measure import environment
from benchmarks.worlds import Contestant, World


@dataclass
class Round:
    """One save and one load, and their rivals, in turns.

    Whoever comes first meets a disk that still has to do with what was written before,
    so rounds differ in who that is.

    Attributes:
        world: of the ranks that save and load.
        place: a folder on the disk.
        mebibytes: that are written and read.
        growth: by "save" and "load", the largest growth of a rank's memory in bytes.
    """

    world: World
    place: Path
    mebibytes: int
    growth: dict[str, int] = field(default_factory=dict)

    def run(self, *, is_first_ours: bool) -> dict[str, float]:
        """Return seconds of "save", "dd", "load" and "read"."""
        acts = {
            "save": lambda: self._ask("save"),
            "dd": self._dd,
            "load": lambda: self._ask("load"),
            "read": self._read,
        }
        took: dict[str, float] = {}
        for own, rival in (("save", "dd"), ("load", "read")):
            for name in (own, rival) if is_first_ours else (rival, own):
                took[name] = acts[name]()
        shutil.rmtree(self._saved)
        return took

    @property
    def _saved(self) -> Path:
        return self.place / "saved"

    def _ask(self, method: str) -> float:
        if method == "load":
            forget_pages(self._saved)
        answers = self.world.ask(tuple, method, str(self._saved))
        self.growth[method] = max(each[1] for each in answers)
        return max(float(each[0]) for each in answers)

    def _dd(self) -> float:
        """Let dd write as many zeros, with fsync."""
        path = self.place / "plain"
        words = "if=/dev/zero", f"of={path}", f"count={self.mebibytes}", "bs=1M"
        start = time.perf_counter()
        subprocess.run(
            ["dd", *words, "conv=fsync"], check=True, stderr=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - start
        path.unlink()
        return seconds

    def _read(self) -> float:
        """Read the files one after the other into one buffer, as plainly as can be."""
        forget_pages(self._saved)
        buffer = bytearray(256 << 10)
        start = time.perf_counter()
        for path in sorted(self._saved.glob("*.safetensors")):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        return time.perf_counter() - start


def main(
    ranks: int = typer.Option(2, "-n", help="Ranks of the world."),
    mebibytes: int = typer.Option(1024, "--mib", help="Weights and state together."),
    rounds: int = typer.Option(6, help="Saves and loads."),
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
    took: list[dict[str, float]] = []
    growth: list[dict[str, int]] = []
    try:
        with World(saver, num_ranks=ranks) as world:
            for number in range(rounds):
                each = Round(world=world, place=place, mebibytes=mebibytes)
                took.append(each.run(is_first_ours=number % 2 == 1))
                growth.append(each.growth)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for name, rival in (("save", "dd"), ("load", "read")):
        ours, theirs = (
            statistics.median(each[who] for each in took) for who in (name, rival)
        )
        grown = ", ".join(f"{each[name] / 2**20:.1f}" for each in growth)
        print(
            f"{name}: {ours:.2f} s, {mebibytes / ours:.0f} MiB/s, "
            f"{theirs / ours:.2f}x of {rival}'s {theirs:.2f} s; memory grew by "
            f"{grown} MiB at most per rank"
        )
