"""From a running manager to the draft of a checkpoint: what is to be saved of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import get_args

from parallel_params.checkpoint.arrange import arrange_in_one
from parallel_params.checkpoint.edges import Edges
from parallel_params.checkpoint.files import Files, OpenedFiles
from parallel_params.checkpoint.live import parts_to_save
from parallel_params.checkpoint.manifest import Layout, Manifest, Way
from parallel_params.checkpoint.manifest_codec import LAYOUTS
from parallel_params.checkpoint.saving import Contents, Draft
from parallel_params.checkpoint.shards import ShardsWriter
from parallel_params.checkpoint.strict_json import canonical
from parallel_params.checkpoint.tensors import tensors_of
from parallel_params.checkpoint.training import capture
from parallel_params.checkpoint.writers import OneWriter, Writer
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.shared_files import HasFiles
from parallel_params.errors import CheckpointNotSaved
from parallel_params.plan.codec import encode
from parallel_params.plan.plan import Plan
from parallel_params.runtime.course import Course
from parallel_params.runtime.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """What a caller wants to find again beside the training state.

    Attributes:
        cursor: samples that the world has consumed.
        metric: how good the weights are; larger is better.
        extras: anything of JSON's types.
    """

    cursor: int | None = None
    metric: float | None = None
    extras: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is saved: the inside of a manager on one rank."""

    plan: Plan
    comm: Communicator
    runtime: Runtime
    course: Course


def make_draft(
    source: Source,
    files: Files,
    target: Path,
    remarks: Remarks,
    *,
    serial: int,
    layout: Layout,
) -> Draft:
    """Describe a save of the state as it is now; nothing is written yet.

    Args:
        source: what is saved.
        files: does what is done to the disk.
        target: the folder that will be the checkpoint.
        remarks: kept in the manifest.
        serial: its number among those of its folder.
        layout: of the files.

    Raises:
        CheckpointNotSaved: there is no such layout, gradients wait for a step, the
            weights are those to evaluate with, or the remarks are no JSON.
    """
    check_layout(layout)
    plan, course = source.plan, source.course
    _check_state(course)
    _check_remarks(remarks)
    tensors = tensors_of(plan)
    manifest = Manifest(
        step=course.num_steps,
        serial=serial,
        layout=layout,
        files=(),
        tensors=(),
        training=capture(course),
        cursor=remarks.cursor,
        metric=remarks.metric,
        extras=dict(remarks.extras),
        plan=encode(plan),
        written_by=f"parallel_params {metadata.version('parallel-params')}",
    )
    rank = source.comm.rank
    parts = [*parts_to_save(plan, rank, source.runtime.arenas)]
    facts = {"format": "pt", "step": str(manifest.step)}
    edges: Edges | None = None
    if layout == "one":
        writer: Writer = OneWriter(arrange_in_one(tensors, facts))
    else:
        edges = Edges(plan, rank, parts, tensors)
        parts = edges.parts
        writer = ShardsWriter(tensors, facts, rank=rank, written=edges.written)
    contents = Contents(manifest=manifest, tensors=tensors)
    return Draft(source.comm, files, target, contents, parts, writer, edges)


def check_layout(layout: str) -> None:
    """Refuse what is no layout.

    Raises:
        CheckpointNotSaved: it is none.
    """
    if layout not in LAYOUTS:
        raise CheckpointNotSaved(
            f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}"
        )


def files_for(way: Way, layout: Layout, comm: Communicator, files: Files) -> Files:
    """Return what writes files in a way.

    Args:
        way: see `Way`.
        layout: of the files.
        comm: that has MPI-IO, or not.
        files: what writes them in the way of the system.

    Raises:
        CheckpointNotSaved: there is no such way, or none for this layout or world.
    """
    check_way(way, layout)
    if way == "system":
        return files
    opener = comm.file_opener if isinstance(comm, HasFiles) else None
    if opener is None:
        raise CheckpointNotSaved(
            f"way: no MPI-IO here ({comm.description}); use way='system', or start the "
            "ranks with mpiexec"
        )
    return OpenedFiles(opener)


def check_way(way: Way, layout: Layout, *, is_asynchronous: bool = False) -> None:
    """Refuse a way that there is not, or not for this.

    Raises:
        CheckpointNotSaved: saying why.
    """
    if way not in get_args(Way):
        raise CheckpointNotSaved(
            f"way: expected one of {', '.join(get_args(Way))}, got {way!r}"
        )
    if way == "mpi" and layout != "one":
        raise CheckpointNotSaved(
            f"way: MPI-IO is for files that ranks share, and with layout {layout!r} "
            "every rank has its own; use way='system'"
        )
    if way == "mpi" and is_asynchronous:
        raise CheckpointNotSaved(
            "way: MPI-IO beside training would meet the messages of its steps inside "
            "of the library; save at once, or use way='system'"
        )


def _check_state(course: Course) -> None:
    if course.is_evaluating:
        raise CheckpointNotSaved(
            "inside of `with manager.evaluation()` the weights are those to evaluate "
            "with, and nothing could go on from them; save outside"
        )
    if course.has_pending:
        raise CheckpointNotSaved(
            "gradients are accumulated and wait for a step; save after that step"
        )


def _check_remarks(remarks: Remarks) -> None:
    cursor, metric = remarks.cursor, remarks.metric
    if cursor is not None and (type(cursor) is not int or cursor < 0):
        raise CheckpointNotSaved(f"cursor: expected samples from 0, got {cursor!r}")
    if metric is not None and type(metric) not in (int, float):
        raise CheckpointNotSaved(f"metric: expected a number, got {metric!r}")
    try:
        canonical({"metric": metric, "extras": dict(remarks.extras)})
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointNotSaved(
            f"metric and extras are kept as JSON, but {error}"
        ) from error
