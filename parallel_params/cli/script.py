"""`python -m parallel_params script.py`: a script, or why it cannot start."""

import os
import sys

from parallel_params.cli import ends
from parallel_params.comm.world import run_script
from parallel_params.errors import LaunchError


def main() -> None:
    """Run the script that is named first; what keeps it from starting is a sentence."""
    try:
        run_script(sys.argv[1], sys.argv[2:])
    except LaunchError as error:
        ends.tell(error, environ=os.environ)
        sys.exit(ends.BAD_INPUT)
