"""The command line `pparams`: verbs and their options, and nothing else.

What a verb does is in a module of its own, imported when the verb is used, so that
`pparams --help` waits for none of them.
"""

import json as json_module
import os
import sys
from typing import Annotated

import typer

from parallel_params.cli import ends
from parallel_params.cli.ckpt import ckpt
from parallel_params.cli.job_verbs import baseline, config, jobs
from parallel_params.cli.options import (
    Job,
    Json,
    Launcher,
    Overrides,
    Ranks,
    RanksPerNode,
)
from parallel_params.comm.failure import describe_failure
from parallel_params.errors import ParallelParamsError

app = typer.Typer(
    name="pparams",
    help="Train NumPy models over MPI, with weights, gradients and optimizer state "
    "lying where the flags of each Parameter say.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # ours are sentences, others need every frame
    context_settings={"help_option_names": ["-h", "--help"]},
)

Resume = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="auto|PATH",
        help="Go on from a checkpoint, the newest in a folder, or (auto) the newest of "
        "this job, if there is one.",
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from parallel_params.cli.versions import describe_versions

        typer.echo(describe_versions(environ=os.environ))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of package, Python, NumPy, BLAS and MPI.",
        ),
    ] = False,
) -> None:
    """Stand in front of the verbs."""


@app.command()
def train(
    job: Job,
    overrides: Overrides = None,
    num_ranks: Ranks = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the job, print its plan, stop.")
    ] = False,
    launcher: Launcher = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors and nothing else.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one line of JSON.")
    ] = False,
    resume: Resume = None,
    worker: Annotated[bool, typer.Option(hidden=True)] = False,
    console_width: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Train a job: starts a world of -n ranks, or joins the one it was started in."""
    from parallel_params.cli.training import Request, train_job

    request = Request(
        job=job,
        overrides=tuple(overrides or ()),
        num_ranks=num_ranks,
        launcher=launcher,
        is_worker=worker,
        is_quiet=quiet,
        is_json=json,
        resume=resume,
        console_width=console_width,
    )
    if dry_run:
        plan(job, overrides, num_ranks=num_ranks, json=json)
        return
    raise typer.Exit(train_job(request, environ=os.environ))


@app.command()
def plan(
    job: Job,
    overrides: Overrides = None,
    num_ranks: Ranks = None,
    ranks_per_node: RanksPerNode = None,
    json: Json = False,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain", metavar="NAME", help="What the flags did to a parameter."
        ),
    ] = None,
) -> None:
    """Say who would hold what and what would travel, for any number of ranks."""
    from parallel_params.cli.planning import describe_plan

    text = describe_plan(
        job,
        overrides or (),
        num_ranks=num_ranks or 1,
        ranks_per_node=ranks_per_node,
        is_json=json,
        explain=explain,
    )
    typer.echo(text.rstrip("\n"))


@app.command()
def verify_bits(
    job: Job,
    overrides: Overrides = None,
    ranks: Annotated[
        str, typer.Option("-n", "--ranks", metavar="N,N", help="Sizes of the worlds.")
    ] = "1,2,4",
    levels: Annotated[
        str, typer.Option("--levels", metavar="L,L", help="Levels of sharding.")
    ] = "0,1,2,3",
    transports: Annotated[
        str,
        typer.Option(
            "--transports",
            metavar="T,T",
            help="threads: ranks in this process; window, messages: worlds of "
            "processes that share memory, or do not.",
        ),
    ] = "threads,window,messages",
    steps: Annotated[
        int, typer.Option("--steps", min=1, metavar="K", help="Steps of each run.")
    ] = 20,
    launcher: Launcher = None,
) -> None:
    """Train a job in many worlds and compare the bits of their weights."""
    from parallel_params.cli import verify

    wanted = verify.Verification(
        job=job,
        overrides=tuple(overrides or ()),
        ranks=verify.read_numbers(ranks, "-n"),
        levels=verify.read_numbers(levels, "--levels", verify.LEVELS),
        transports=verify.read_transports(transports),
        num_steps=steps,
        launcher=launcher,
    )
    raise typer.Exit(verify.verify_bits(wanted, environ=os.environ, say=typer.echo))


@app.command()
def doctor(
    json: Json = False,
    world: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Check Python, NumPy, BLAS, MPI and its launcher, with a real world of 2 ranks."""
    from parallel_params.cli.doctor import examine, report_world

    if world:
        report_world(environ=os.environ)
        return
    checks = examine(environ=os.environ)
    if json:
        typer.echo(json_module.dumps([check.as_json() for check in checks], indent=2))
    else:
        for check in checks:
            typer.echo(check.describe())
    is_ill = any(check.verdict == "fail" for check in checks)
    raise typer.Exit(ends.FAILURE if is_ill else ends.OK)


@app.command()
def launch(
    job: Job,
    overrides: Overrides = None,
    num_ranks: Ranks = None,
    launcher: Launcher = None,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the command, start nothing.")
    ] = False,
) -> None:
    """Show, with --print, the command and variables that train would start."""
    from parallel_params.cli.training import Request, start_of

    if not print_only:
        raise typer.BadParameter("launch only prints: say --print, or use train")
    request = Request(
        job=job,
        overrides=tuple(overrides or ()),
        num_ranks=num_ranks or 1,
        launcher=launcher,
    )
    typer.echo(start_of(request, environ=os.environ).describe())


@app.command(
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def mpiexec(arguments: Annotated[list[str], typer.Argument()]) -> None:
    """Run this environment's mpiexec with the variables that a local world wants."""
    from parallel_params.cli.training import run_mpiexec

    raise typer.Exit(run_mpiexec(arguments, environ=os.environ))


app.command()(jobs)
app.command()(baseline)
app.add_typer(config, name="config")
app.add_typer(ckpt, name="ckpt")


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except ParallelParamsError as error:
        ends.tell(error, environ=os.environ)
        sys.exit(ends.code_of(error))
    except KeyboardInterrupt:
        sys.exit(ends.INTERRUPTED)
    except Exception as error:
        sys.stderr.write(f"{describe_failure(error)}\n")
        sys.exit(ends.UNCAUGHT)
