"""Verbs that look at jobs and start none: `jobs`, `baseline`, `config ...`."""

from typing import Annotated

import typer

from parallel_params.cli.options import Job, Json, Overrides

config = typer.Typer(help="Look at a job file.", no_args_is_help=True)


def jobs() -> None:
    """List the shipped jobs, with a line each."""
    from parallel_params.cli.jobs import describe_jobs

    typer.echo(describe_jobs())


def baseline(job: Job, overrides: Overrides = None, json: Json = False) -> None:
    """Say what simple methods reach on the data of a job."""
    from parallel_params.cli.jobs import describe_baselines

    typer.echo(describe_baselines(job, overrides or (), is_json=json))


@config.command()
def check(job: Job, overrides: Overrides = None) -> None:
    """Check a job file; say all that is wrong with it, with line and near names."""
    from parallel_params.train.config import load_job

    loaded = load_job(job, overrides or ())
    typer.echo(f"ok: {loaded.title or loaded.run.name}")


@config.command()
def show(job: Job, overrides: Overrides = None) -> None:
    """Print a job as TOML with every default and override in it."""
    from parallel_params.train.config import dump_job, load_job

    typer.echo(dump_job(load_job(job, overrides or ())), nl=False)


@config.command()
def keys(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the page docs/job-keys.md.")
    ] = False,
) -> None:
    """List every key of a job file with its type, default and meaning."""
    from parallel_params.cli.keys import describe_keys

    typer.echo(describe_keys(as_markdown=markdown))


@config.command()
def schema() -> None:
    """Print the JSON schema of a job file."""
    from parallel_params.train.config import schema_text

    typer.echo(schema_text(), nl=False)
