"""The verbs `pparams ckpt ...`: look at checkpoints and move them, without MPI."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from parallel_params.cli import ends
from parallel_params.cli.options import Job, Json, Overrides, Ranks, RanksPerNode

ckpt = typer.Typer(help="Look at checkpoints; without MPI.", no_args_is_help=True)


def _without_run(path: Path) -> Path:
    from parallel_params.checkpoint.folder import folder_in

    return folder_in(path)


Where = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        help="A checkpoint, a folder of them, or a run folder.",
        callback=_without_run,
    ),
]
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="Where checkpoints are, or the folder of a run.",
        callback=_without_run,
    ),
]
Renames = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OLD=NEW",
        help="Names that begin with OLD begin with NEW instead, which may be empty.",
    ),
]


@ckpt.command(name="ls")
def list_them(folder: Folder, json: Json = False) -> None:
    """List the checkpoints of a folder, the newest last, and what is left over."""
    from parallel_params.cli import ckpt_text

    facts = ckpt_text.list_facts(folder)
    text = json_module.dumps(facts, indent=2) if json else ckpt_text.list_text(facts)
    typer.echo(text)


@ckpt.command()
def show(path: Where, json: Json = False) -> None:
    """Say what is in a checkpoint: step, plan, tensors, files, extras."""
    from parallel_params.cli import ckpt_text

    facts = ckpt_text.show_facts(path)
    text = json_module.dumps(facts, indent=2) if json else ckpt_text.show_text(facts)
    typer.echo(text)


@ckpt.command()
def verify(path: Where) -> None:
    """Read all bytes and compare every hash; ends with 1 if one is wrong."""
    from parallel_params.cli import ckpt_text

    lines, is_whole = ckpt_text.verify(path)
    typer.echo("\n".join(lines))
    raise typer.Exit(ends.OK if is_whole else ends.FAILURE)


@ckpt.command()
def diff(
    path: Where,
    job: Job,
    overrides: Overrides = None,
    num_ranks: Ranks = None,
    ranks_per_node: RanksPerNode = None,
) -> None:
    """Say what a job on N ranks would take from a checkpoint, and what would move."""
    from parallel_params.cli import ckpt_text

    text = ckpt_text.diff(
        path,
        job,
        overrides or (),
        num_ranks=num_ranks or 1,
        ranks_per_node=ranks_per_node,
    )
    typer.echo(text)


@ckpt.command()
def export(
    path: Where,
    target: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="To write; its ending says which kind."),
    ],
    names: Annotated[
        str,
        typer.Option(
            "--names",
            metavar="mindspore|torch",
            help="Whose names; ours are MindSpore's.",
        ),
    ] = "mindspore",
    renames: Renames = None,
    state: Annotated[
        bool, typer.Option("--state", help="With the optimizer state.")
    ] = False,
) -> None:
    """Write a checkpoint's weights as one .safetensors, .npz or .ckpt file."""
    from parallel_params.cli import ckpt_text

    if names not in ("mindspore", "torch"):
        raise typer.BadParameter(
            f"mindspore or torch, not {names!r}", param_hint="--names"
        )
    lines = ckpt_text.export_to(
        path, target, is_torch=names == "torch", renames=renames or (), has_state=state
    )
    typer.echo("\n".join(lines))


@ckpt.command(name="import")
def import_from(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="With the weights, by name.")
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Of the checkpoint; not there yet."),
    ],
    job: Annotated[
        str | None,
        typer.Option("--for", metavar="JOB", help="Take what its model has."),
    ] = None,
    renames: Renames = None,
) -> None:
    """Make a checkpoint of the weights in a .safetensors, .npz or .ckpt file."""
    from parallel_params.cli import ckpt_text

    typer.echo("\n".join(ckpt_text.import_from(source, target, job, renames or ())))


@ckpt.command()
def prune(
    folder: Folder,
    keep: Annotated[
        int, typer.Option("--keep", min=1, metavar="K", help="How many of the newest.")
    ],
    best: Annotated[
        bool, typer.Option("--best/--no-best", help="Keep the best one too.")
    ] = True,
) -> None:
    """Remove old checkpoints and left-overs; no run may be saving meanwhile."""
    from parallel_params.cli import ckpt_text

    typer.echo("\n".join(ckpt_text.prune_folder(folder, keep=keep, has_best=best)))
