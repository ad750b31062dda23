"""How a command ends: its exit code, and one sentence for an error of ours.

What an uncaught exception does to a world is decided by the failure hooks of `comm`.
"""

import sys
from collections.abc import Mapping

from parallel_params.comm.launch_env import is_launched
from parallel_params.errors import (
    ConfigError,
    DataError,
    LaunchError,
    ParallelParamsError,
    PlanError,
    RunFolderExists,
)

OK = 0
FAILURE = 1
BAD_INPUT = 2
UNCAUGHT = 70
INTERRUPTED = 130

_RANK_VARIABLES = (
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "PALS_RANKID",
    "SLURM_PROCID",
)

# What can be put right by asking for something else, or asking elsewhere.
_BAD_INPUT = (ConfigError, DataError, LaunchError, PlanError, RunFolderExists)


def code_of(error: ParallelParamsError) -> int:
    """Return the exit code of an error of ours."""
    return BAD_INPUT if isinstance(error, _BAD_INPUT) else FAILURE


def sentence_of(error: ParallelParamsError) -> str:
    """Write an error of ours for a person, without frames."""
    # Problems of a job begin with its file and line, as editors know them.
    return str(error) if isinstance(error, ConfigError) else f"pparams: {error}"


def rank_claimed(environ: Mapping[str, str]) -> int:
    """Return the rank a launcher gave this process, for reports only; 0 outside."""
    if is_launched(environ):
        for name in _RANK_VARIABLES:
            text = environ.get(name, "")
            if text.isdecimal():
                return int(text)
    return 0


def tell(error: ParallelParamsError, *, environ: Mapping[str, str]) -> None:
    """Print an error that all ranks of a world meet alike, once and without frames."""
    if rank_claimed(environ) == 0:
        sys.stderr.write(f"{sentence_of(error)}\n")
        sys.stderr.flush()
