"""Gradients over a cable between two hosts: this package's step against the MPI's own.

The hosts are network namespaces of this machine, see `launch/two_hosts.py`: the cable's
speed is set, the cores are shared. What is compared is how much longer than the bytes
alone a step takes.
"""

import json
import os
import statistics
import subprocess
import sys
from itertools import pairwise

import typer

from benchmarks.cable_rank import Way
from benchmarks.contestants import MLP, numbers_of
from benchmarks.measure import blas_variables
from benchmarks.worlds import ONE_THREAD, ROOT

CANNOT = 77


def run_hosts(per_host: int, mbit: float, *words: str) -> tuple[str, list[Way]]:
    """Run `cable_rank` on two hosts; return the MPI's name and what it measured."""
    tool = [sys.executable, str(ROOT / "launch" / "two_hosts.py"), str(per_host)]
    rank = [sys.executable, "-m", "benchmarks.cable_rank", *words]
    done = subprocess.run(
        [*tool, "--mbit", str(mbit), "--", *rank],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["mpi"], [Way(**way) for way in found["ways"]]


def line(way: Way, *, mbit: float, reference_s: float, default_bytes: float) -> str:
    """Write one row: times, bytes, and both ratios."""
    median = statistics.median(way.seconds)
    due_bytes = way.announced_bytes or default_bytes
    due_s = due_bytes * 8 / (mbit * 1e6)
    announced = f"{way.announced_bytes / 1e6:.1f}" if way.announced_bytes else ""
    return (
        f"{way.name:18} {median * 1e3:10.1f} {min(way.seconds) * 1e3:8.1f} "
        f"{announced:>10} {way.carried_bytes / 1e6:8.1f} {median / due_s:10.2f}x "
        f"{reference_s / median:8.2f}x"
    )


def main(
    per_host: int = typer.Option(1, "--per-host", help="Ranks on each of two hosts."),
    mbit: float = typer.Option(1000.0, help="Speed of the cable, Mbit/s each way."),
    widths: str = typer.Option(MLP, help="Of the layers."),
    batch: int = typer.Option(64, help="Samples of each rank."),
    rounds: int = typer.Option(5, help="Timings of each way."),
) -> None:
    """Time gradients over a cable of settable speed between two hosts."""
    print(f"{widths} on 2 hosts of {per_host}, {mbit:g} Mbit/s; {blas_variables()}")
    mpi, ways = run_hosts(per_host, mbit, widths, str(batch), str(rounds))
    print(mpi)
    print(
        f"{'':18} {'median ms':>10} {'min ms':>8} {'MB planned':>10} {'carried':>8} "
        f"{'/ bytes':>11} {'speed':>9}"
    )
    numbers = numbers_of(widths)
    # What an exchange of everything between two hosts takes at least.
    least = 4.0 * sum(a * b + b for a, b in pairwise(numbers))
    reference = statistics.median(ways[0].seconds)
    for way in ways:
        print(line(way, mbit=mbit, reference_s=reference, default_bytes=least))
