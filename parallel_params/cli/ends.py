"""How a command ends: its exit code, and one sentence for an error of ours.

What an uncaught exception does to a world is decided by the failure hooks of `comm`.
"""

import sys
import time
from collections.abc import Mapping

from parallel_params.comm.launch_env import is_launched
from parallel_params.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LaunchError,
    ParallelParamsError,
    PlanError,
    RunFolderExists,
    TrainingStopped,
)

OK = 0
FAILURE = 1
BAD_INPUT = 2
UNCAUGHT = 70
STOPPED = 75  # try again: sysexits.h has it as EX_TEMPFAIL
INTERRUPTED = 130

# Longer than a rank needs to say what is wrong and to end the world.
PATIENCE_S = 1.0

_RANK_VARIABLES = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "PALS_LOCAL_RANKID",
    "SLURM_LOCALID",
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "PALS_RANKID",
    "SLURM_PROCID",
)

# What can be put right by asking for something else, or asking elsewhere.
_BAD_INPUT = (
    CheckpointError,
    ConfigError,
    DataError,
    LaunchError,
    PlanError,
    RunFolderExists,
)


def code_of(error: ParallelParamsError) -> int:
    """Return the exit code of an error of ours."""
    if isinstance(error, TrainingStopped):
        return STOPPED
    return BAD_INPUT if isinstance(error, _BAD_INPUT) else FAILURE


def sentence_of(error: ParallelParamsError) -> str:
    """Write an error of ours for a person, without frames."""
    # Problems of a job begin with its file and line, as editors know them.
    return str(error) if isinstance(error, ConfigError) else f"pparams: {error}"


def rank_on_node(environ: Mapping[str, str]) -> int:
    """Return which of its node's ranks a launcher calls this process; 0 outside.

    Where the launcher does not say, the rank in the world stands for it.
    """
    if is_launched(environ):
        for name in _RANK_VARIABLES:
            text = environ.get(name, "")
            if text.isdecimal():
                return int(text)
    return 0


def tell(error: ParallelParamsError, *, environ: Mapping[str, str]) -> None:
    """Print what keeps a process out of its world, once per node and without frames."""
    if rank_on_node(environ) == 0:
        sys.stderr.write(f"{sentence_of(error)}\n")
        sys.stderr.flush()
    else:
        # The first rank to leave makes the launcher end the others, unheard.
        time.sleep(PATIENCE_S)
