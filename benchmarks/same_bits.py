"""One job in many worlds: do all of them end with the same weights, bit for bit?

Runs the job on threads of this process and in worlds of the MPI this environment has,
and prints the hash of the weights of each. Exits with 1 if two of them differ.
"""

import io
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import typer

from benchmarks.measure import environment
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.train.config import load_job
from parallel_params.train.console import Console
from parallel_params.train.loop import train


def on_threads(job: str, ranks: int, overrides: list[str]) -> tuple[str, float]:
    """Return the hash of the weights and the test accuracy of a world of threads."""
    loaded = load_job(job, overrides)

    def body(comm: Communicator) -> tuple[str, float]:
        result = train(loaded, comm, Console(stream=io.StringIO(), is_quiet=True))
        return result.weights_hash, result.test_accuracy

    return run_threads(ranks, body)[0]


def under_mpi(job: str, ranks: int, overrides: list[str]) -> tuple[str, float]:
    """Return the same of a world of processes."""
    command = [sys.executable, "-m", "parallel_params", "train", job, *overrides]
    command += ["-n", str(ranks), "--json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    return result["weights_hash"], result["test_accuracy"]


def main(
    job: str = typer.Argument("digits", help="A job file, or a shipped job's name."),
    ranks: str = typer.Option("1,2,4", help="World sizes."),
    levels: str = typer.Option("0,1", help="Levels of sharding."),
) -> None:
    """Train one job in many worlds and compare the bits of the weights."""
    print(f"{job}; {environment()}")
    print(
        f"{'world':8} {'ranks':>5} {'level':>5}   {'hash of the weights':32}  accuracy"
    )
    hashes = set()
    runs = itertools.product(
        (on_threads, under_mpi), map(int, ranks.split(",")), map(int, levels.split(","))
    )
    for run, num_ranks, level in runs:
        with tempfile.TemporaryDirectory() as folder:
            overrides = [
                f"parallel.level={level}",
                f"run.folder={Path(folder, 'run')}",
            ]
            weights_hash, accuracy = run(job, num_ranks, overrides)
        hashes.add(weights_hash)
        world = "threads" if run is on_threads else "MPI"
        print(f"{world:8} {num_ranks:5} {level:5}   {weights_hash:32}  {accuracy:.4f}")
    print("all the same" if len(hashes) == 1 else f"{len(hashes)} different hashes")
    raise typer.Exit(len(hashes) != 1)
