"""`python -m parallel_params`: the command line, or a script under our failure hooks.

`python -m parallel_params script.py ARGS` runs a user's own program so that a rank that
fails ends the world; everything else is `pparams`.
"""

import sys


def main() -> None:
    """Run a script if the first argument is one, else the command line."""
    if len(sys.argv) > 1 and sys.argv[1].endswith(".py"):
        from parallel_params.cli.script import main as run
    else:
        from parallel_params.cli.app import main as run
    run()


if __name__ == "__main__":
    main()
