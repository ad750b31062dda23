"""Examine the machine: what runs, what does not, and what to do about it.

Each check is a line with a verdict. Nothing is repaired here.
"""

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np

from parallel_params.cli.library import mpi_library
from parallel_params.cli.start import Start, make_start, num_cores
from parallel_params.cli.versions import describe_blas
from parallel_params.comm.failure import abort_on_failure
from parallel_params.comm.world import open_world
from parallel_params.errors import LaunchError
from parallel_params.tensor.kernel_set import missing_compiler

_SHARED_MEMORY = Path("/dev/shm")
_NUM_RANKS = 2
_PATIENCE_S = 60
_ENOUGH_BYTES = 256 * 2**20
_BATCH_SYSTEMS = {"SLURM_JOB_ID": "Slurm", "PBS_JOBID": "PBS", "LSB_JOBID": "LSF"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found about one thing.

    Attributes:
        verdict: ok; warn, it works less well; fail, a world will not start.
        text: one line, with the remedy unless all is well.
    """

    verdict: Literal["ok", "warn", "fail"]
    text: str

    def describe(self) -> str:
        """Write the line."""
        return f"{self.verdict:<5} {self.text}"

    def as_json(self) -> dict[str, str]:
        """Give the check as JSON has it."""
        return {"verdict": self.verdict, "text": self.text}


def examine(*, environ: Mapping[str, str]) -> list[Check]:
    """Make all checks; those of MPI end at the first that fails."""
    checks = [
        Check(
            verdict="ok",
            text=f"Python {platform.python_version()}, NumPy "
            f"{metadata.version('numpy')} ({describe_blas()})",
        ),
        Check(verdict="ok", text=_fast_kernels()),
    ]
    try:
        start = _start_of_world(environ)
        name, version = mpi_library()
        launcher = f"{start.command[0]} ({start.found})"
        text = f"MPI library {name} {version}, launcher {launcher}"
        checks.append(Check(verdict="ok", text=text))
        checks.append(_try_world(start, environ))
    except LaunchError as error:
        checks.append(Check(verdict="fail", text=str(error)))
    checks.append(Check(verdict="ok", text=f"{num_cores()} cores for this process"))
    if _SHARED_MEMORY.is_dir():
        checks.append(_shared_memory(shutil.disk_usage(_SHARED_MEMORY).free))
    checks += [
        Check(verdict="ok", text=f"inside {system} job {environ[name]}")
        for name, system in _BATCH_SYSTEMS.items()
        if name in environ
    ]
    return checks


def report_world(*, environ: Mapping[str, str]) -> None:
    """Be a rank of the world that `examine` starts; rank 0 prints what it measured.

    Collective: every process of the world.
    """
    comm = open_world(environ)
    with abort_on_failure(comm):
        value = np.ones(1, np.float64)
        measured = _median_us(lambda: comm.all_reduce(value))
        if comm.rank == 0:
            print(json.dumps({"size": comm.size, "all_reduce_us": measured}))


def _fast_kernels() -> str:
    if missing_compiler() is not None:
        return "no fast kernels: pip install 'parallel-params[fast]' if wanted"
    return f"fast kernels can be chosen (Numba {metadata.version('numba')})"


def _start_of_world(environ: Mapping[str, str]) -> Start:
    return make_start(
        [sys.executable, "-m", "parallel_params", "doctor", "--world"],
        num_ranks=_NUM_RANKS,
        library=mpi_library()[0],
        launcher=None,
        executable=sys.executable,
        environ=environ,
    )


def _try_world(start: Start, environ: Mapping[str, str]) -> Check:
    what = f"world of {_NUM_RANKS}"
    try:
        answer = subprocess.run(
            start.command,
            env={**environ, **start.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        found = json.loads(answer.stdout)
    except subprocess.TimeoutExpired:
        return Check(verdict="fail", text=f"{what}: no end after {_PATIENCE_S} s")
    except ValueError:
        said = (answer.stderr + answer.stdout).strip().replace("\n", " | ")
        text = f"{what}: exit code {answer.returncode}: {said[:500]}"
        return Check(verdict="fail", text=text)
    if found["size"] != _NUM_RANKS:
        text = f"{what}: its ranks see {found['size']}; launcher and library differ"
        return Check(verdict="fail", text=text)
    text = f"{what}: all_reduce {found['all_reduce_us']:.0f} us"
    return Check(verdict="ok", text=text)


def _shared_memory(free_bytes: int) -> Check:
    text = f"{_SHARED_MEMORY} has {free_bytes >> 20} MiB free"
    if free_bytes < _ENOUGH_BYTES:
        return Check(
            verdict="warn",
            text=f"{text}: too little for large shared windows (docker: --shm-size=1g)",
        )
    return Check(verdict="ok", text=text)


def _median_us(body: Callable[[], None], *, num_calls: int = 200) -> float:
    times = []
    for _ in range(num_calls):
        begin = time.perf_counter()
        body()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e6
