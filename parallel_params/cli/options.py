"""Arguments and options that several verbs have."""

from typing import Annotated

import typer

Job = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job file, or the name of a shipped job: digits (pparams jobs has all).",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Keys of the job to set otherwise."),
]
Ranks = Annotated[
    int | None,
    typer.Option(
        "-n", "--ranks", min=1, metavar="N", help="Ranks of the world, 1 by default."
    ),
]
RanksPerNode = Annotated[
    int | None,
    typer.Option(
        "--ranks-per-node",
        min=1,
        metavar="K",
        help="Ranks that share a node's memory, all of them by default.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Launcher = Annotated[
    str | None,
    typer.Option(
        "--launcher",
        metavar="CMD",
        help='What starts the world, as in "srun --mpi=pmi2"; else the environment '
        "variable PPARAMS_LAUNCHER, else the mpiexec beside python, else srun inside a "
        "Slurm job, else mpiexec on PATH.",
    ),
]
