"""Starts programs in an MPI world of this machine, for tests that need a whole one."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from parallel_params.comm.launch_env import (
    find_mpiexec,
    local_world_environment,
    mpiexec_family,
)

HELPERS = Path(__file__).parent.parent


class NoLauncherError(Exception):
    """There is no mpiexec beside this Python and none on PATH."""


def world_command(
    num_ranks: int, python_args: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment that run this Python as `num_ranks` ranks."""
    mpiexec = find_mpiexec(sys.executable, os.environ)
    if mpiexec is None:
        raise NoLauncherError(
            "No MPI library found. Either pip install 'parallel-params[mpich]' or load "
            "your site's MPI module; --world-sizes= runs the tests without worlds."
        )
    environ = dict(os.environ)
    environ |= local_world_environment(
        mpiexec_family(mpiexec),
        num_ranks=num_ranks,
        num_cores=len(os.sched_getaffinity(0)),
        is_root=os.geteuid() == 0,
        environ=os.environ,
    )
    # Ranks that write the same cached bytecode at once have been seen to tear it.
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    paths = [str(HELPERS), str(HELPERS.parent), environ.get("PYTHONPATH", "")]
    environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [str(mpiexec), "-n", str(num_ranks), sys.executable, *python_args]
    return command, environ


def run_in_world(
    num_ranks: int,
    python_args: Sequence[str],
    *,
    extra_environ: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> "subprocess.CompletedProcess[str]":
    """Run `python *python_args` as a world and return its end and what it printed.

    A world that hangs is ended after `timeout_s` and raises `TimeoutExpired`.
    """
    command, environ = world_command(num_ranks, python_args)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ | dict(extra_environ or {}),
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            # Told to leave, a launcher takes its ranks along; killed, it does not.
            process.terminate()
            process.communicate(timeout=10)
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
