"""How a command ends: its exit code, and one sentence for an error of ours.

What an uncaught exception does to a world is decided by the failure hooks of `comm`.
"""

import sys
from collections.abc import Mapping

from parallel_params.comm.launch_env import is_launched
from parallel_params.errors import ConfigError, ParallelParamsError

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
    if rank_claimed(environ) != 0:
        return
    lead = "" if isinstance(error, ConfigError) else "pparams: "
    sys.stderr.write(f"{lead}{error}\n")
    sys.stderr.flush()
