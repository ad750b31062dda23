"""The verb `train`: start a world of ranks, or be one of its ranks.

All that can be wrong with a job is said before a world starts. How a job is trained is
`parallel_params/train/`; how a world is started, `cli/start.py` and `cli/children.py`.
"""

import functools
import itertools
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from parallel_params.cli.children import run_world
from parallel_params.cli.library import mpi_library
from parallel_params.cli.start import Start, is_local, make_start, num_cores
from parallel_params.comm.launch_env import (
    find_mpiexec,
    is_launched,
    local_world_environment,
    mpiexec_family,
    world_size_claimed,
)
from parallel_params.errors import LaunchError
from parallel_params.train.config import load_job
from parallel_params.train.config.shipped import find_job
from parallel_params.train.console import Console
from parallel_params.train.run_folder import check_run_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asked for."""

    job: str
    overrides: tuple[str, ...] = ()
    num_ranks: int | None = None
    launcher: str | None = None
    is_worker: bool = False
    is_quiet: bool = False
    is_json: bool = False
    resume: str | None = None
    console_width: int = 0


def train_job(request: Request, *, environ: Mapping[str, str]) -> int:
    """Train a job in the world this process is in, else in a new one; return the code.

    Raises:
        ConfigError: the job is wrong; nothing was started.
        LaunchError: the world cannot be started, or is not of the size asked for.
    """
    claimed = world_size_claimed(environ)
    if claimed is not None and request.num_ranks not in (None, claimed):
        raise LaunchError(
            f"-n {request.num_ranks} was asked for inside a world of {claimed} ranks; "
            f"leave -n out, or start pparams without mpirun and srun."
        )
    is_in_world = request.is_worker or is_launched(environ)
    load = functools.partial(load_job, request.job, request.overrides)
    if not is_in_world:
        # A mistake is told before the tensors are even imported.
        run = load().run
        if request.resume is None:
            check_run_folder(run)
    if is_in_world or request.num_ranks in (None, 1):
        width = request.console_width if is_in_world else _terminal_width()
        from parallel_params.cli.worker import work

        is_mute = request.is_quiet or request.is_json or _stdout() is None
        console = Console(
            stream=sys.stdout,
            width=width,
            is_quiet=is_mute,
            has_color="NO_COLOR" not in environ,
        )
        return work(
            load,
            console,
            source=lambda: find_job(Path(request.job)),
            num_ranks=request.num_ranks,
            is_json=request.is_json,
            resume=request.resume,
            environ=environ,
        )
    return run_world(
        start_of(request, environ=environ), environ=environ, is_savable=True
    )


def start_of(request: Request, *, environ: Mapping[str, str]) -> Start:
    """Choose the command that starts the world of a request.

    The ranks read the job file again rather than a resolved copy of it: a copy would
    have to lie where every node of a cluster sees it, and the job file does already.

    Raises:
        ConfigError: the job is wrong.
        LaunchError: no MPI library, no launcher, or they do not belong together.
    """
    from parallel_params.train.build import check_world

    num_ranks = request.num_ranks or 1
    check_world(load_job(request.job, request.overrides), num_ranks)
    library, _ = mpi_library()
    program = [sys.executable, "-m", "parallel_params", "train"]
    program += [str(find_job(Path(request.job)).resolve()), *request.overrides]
    program += ["-n", str(num_ranks), "--worker"]
    program += ["--quiet"] if request.is_quiet else []
    program += ["--json"] if request.is_json else []
    program += [] if request.resume is None else ["--resume", request.resume]
    # No rank can tell: MPICH hides the terminal from all, Open MPI shows it to all.
    if width := _terminal_width():
        program += ["--console-width", str(width)]
    return make_start(
        program,
        num_ranks=num_ranks,
        library=library,
        launcher=request.launcher,
        executable=sys.executable,
        environ=environ,
    )


def run_mpiexec(arguments: Sequence[str], *, environ: Mapping[str, str]) -> int:
    """Run the mpiexec of this environment as it is, with variables for a local world.

    Raises:
        LaunchError: there is no mpiexec.
    """
    mpiexec = find_mpiexec(sys.executable, environ)
    if mpiexec is None:
        raise LaunchError(
            "No mpiexec found, neither beside python nor on PATH. Either pip install "
            "'parallel-params[mpich]' or load your site's MPI module."
        )
    family = mpiexec_family(mpiexec)
    variables: dict[str, str] = {}
    if is_local(environ):
        variables = local_world_environment(
            family,
            num_ranks=_ranks_among(arguments),
            num_cores=num_cores(),
            is_root=os.geteuid() == 0,
            environ=environ,
        )
    start = Start(
        command=(str(mpiexec), *arguments),
        variables=variables,
        family="unknown",  # the program's codes are its own: nothing is read into them
        found="beside python",
    )
    return run_world(start, environ=environ)


def _ranks_among(arguments: Sequence[str]) -> int:
    """Return the number behind -n, -np or --n; one rank per core without it."""
    for option, value in itertools.pairwise(arguments):
        if option in ("-n", "-np", "--n", "--np") and value.isdecimal():
            return max(1, int(value))
    return num_cores()


def _terminal_width() -> int:
    """Return the width of the terminal standard output goes to, 0 if there is none."""
    stream = _stdout()
    is_terminal = stream is not None and stream.isatty()
    return shutil.get_terminal_size().columns if is_terminal else 0


def _stdout() -> TextIO | None:
    """Return standard output, None where it was closed (`>&-`)."""
    return sys.stdout
