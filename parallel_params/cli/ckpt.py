"""The verbs `pparams ckpt ...`: look at checkpoints and move them, without MPI."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from parallel_params.cli import ends

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Renames = Annotated[
    list[str] | None,
    typer.Option(
        "--rename", metavar="OLD=NEW", help="Another beginning of names: model.= ."
    ),
]


@ckpt.command(name="ls")
def list_them(folder: Where, json: Json = False) -> None:
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
    job: Annotated[str, typer.Argument(metavar="JOB", help="What would load it.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Keys of the job to set otherwise."),
    ] = None,
    num_ranks: Annotated[
        int, typer.Option("-n", "--ranks", min=1, metavar="N", help="Ranks.")
    ] = 1,
    ranks_per_node: Annotated[
        int | None, typer.Option("--ranks-per-node", min=1, metavar="K")
    ] = None,
) -> None:
    """Say what a job on N ranks would take from a checkpoint, and what would move."""
    from parallel_params.cli import ckpt_text

    text = ckpt_text.diff(
        path, job, overrides or (), num_ranks=num_ranks, ranks_per_node=ranks_per_node
    )
    typer.echo(text)


@ckpt.command()
def export(
    path: Where,
    target: Annotated[Path, typer.Argument(metavar="FILE")],
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
    source: Annotated[Path, typer.Argument(metavar="FILE")],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Not there yet.")],
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
    folder: Where,
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
