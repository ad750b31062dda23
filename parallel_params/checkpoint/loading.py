"""How a checkpoint gets into a running manager, at any world size and level.

Each rank reads only the ranges that it has to fill. All hashes are checked, on all
ranks, before the first value is written: a checkpoint is loaded whole or not at all.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parallel_params.checkpoint.exchange import exchange
from parallel_params.checkpoint.live import LivePart, parts_to_load, spread
from parallel_params.checkpoint.manifest import Key, Manifest
from parallel_params.checkpoint.manifest_codec import decode
from parallel_params.checkpoint.matching import Matches, match
from parallel_params.checkpoint.reading import MANIFEST, Reader, read_manifest
from parallel_params.checkpoint.slices import Layerwise
from parallel_params.checkpoint.sources import Anew, Source, check, fill
from parallel_params.checkpoint.training import Restored
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointDamaged
from parallel_params.nn.packing import Packing
from parallel_params.plan.plan import Plan
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.course import Course
from parallel_params.runtime.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was loaded.

    Attributes:
        path: of the checkpoint.
        manifest: its description; `step`, `cursor`, `metric` and `extras` are there.
        bytes_read: by this rank, its checks not counted.
        notes: what is otherwise than it was saved, for a person.
    """

    path: Path
    manifest: Manifest
    bytes_read: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a checkpoint is to be loaded; see `ManagerCheckpoints.load`."""

    weights_only: bool = False
    is_strict: bool = True
    layerwise: Layerwise = "fail"
    packings: Sequence[Packing] = ()


def open_for_all(comm: Communicator, locate: Callable[[], Path]) -> Reader:
    """Open a checkpoint on all ranks; the first one finds it and reads its manifest.

    Args:
        comm: all ranks.
        locate: finds the checkpoint; called on the first rank.

    Raises:
        CheckpointError: on all ranks, if it cannot be found or opened.

    Collective: all ranks.
    """
    error: Exception | None = None
    payload = b""
    if comm.rank == 0:
        try:
            folder = locate()
            content = read_manifest(folder)
            Reader.open(folder)
            # ASCII, even for paths that are no UTF-8.
            payload = json.dumps(str(folder)).encode() + b"\n" + content
        except Exception as raised:
            error = raised
    told, _, content = exchange(comm, payload, error)[0].partition(b"\n")
    folder = Path(json.loads(told))
    return Reader(folder, decode(content, str(folder / MANIFEST)))


def load_into(
    reader: Reader,
    plan: Plan,
    comm: Communicator,
    runtime: Runtime,
    course: Course,
    wishes: Wishes,
) -> Loaded:
    """Fill the arenas and the course of a manager from a checkpoint.

    Raises:
        CheckpointMismatch: it is not of this net; nothing has changed.
        CheckpointDamaged: a file is not what was saved; nothing has changed.

    Collective: all ranks.
    """
    error: Exception | None = None
    ready = _Ready(pairs=[], sources={}, notes=[], restored=None)
    try:
        ready = _check(reader, plan, comm.rank, runtime.arenas, course, wishes)
    except Exception as raised:
        error = raised
    exchange(comm, b"", error)
    num_bytes = _fill(reader, comm, runtime, ready.pairs)
    loaded = frozenset(ready.sources)
    for arena in runtime.arenas:
        spread(plan, comm.rank, arena, runtime.node, loaded)
    _finish(runtime, loaded)
    if ready.restored is not None:
        anew = {k.name for k, each in ready.sources.items() if isinstance(each, Anew)}
        ready.restored.apply(course, anew)
    return Loaded(
        path=reader.folder,
        manifest=reader.manifest,
        bytes_read=num_bytes,
        notes=tuple(ready.notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """What one rank will do, once all ranks have found nothing wrong.

    Attributes:
        pairs: what is to be filled, and from where.
        sources: of all tensors of the plan, those of other ranks included.
        notes: for a person.
        restored: counts and rates, unless only weights are wanted.
    """

    pairs: list[tuple[LivePart, Source]]
    sources: Mapping[Key, Source]
    notes: list[str]
    restored: Restored | None


def _check(
    reader: Reader,
    plan: Plan,
    rank: int,
    arenas: Sequence[Arena],
    course: Course,
    wishes: Wishes,
) -> _Ready:
    """Find everything this rank needs and check its hashes; change nothing."""
    where = str(reader.folder)
    matches = match(
        reader.manifest,
        plan,
        where=where,
        is_strict=wishes.is_strict,
        weights_only=wishes.weights_only,
        layerwise=wishes.layerwise,
        packings=wishes.packings,
    )
    notes, restored = matches.notes, None
    if not wishes.weights_only:
        restored = Restored(reader.manifest.training, course.optimizers, where)
        notes = notes + restored.notes
    pairs = _pairs(matches, plan, rank, arenas)
    with reader:
        for part, source in pairs:
            check(reader, source, part.interval)
    return _Ready(pairs=pairs, sources=matches.sources, notes=notes, restored=restored)


def _pairs(
    matches: Matches, plan: Plan, rank: int, arenas: Sequence[Arena]
) -> list[tuple[LivePart, Source]]:
    return [
        (part, matches.sources[part.key])
        for part in parts_to_load(plan, rank, arenas)
        if part.key in matches.sources
    ]


def _fill(
    reader: Reader,
    comm: Communicator,
    runtime: Runtime,
    pairs: Sequence[tuple[LivePart, Source]],
) -> int:
    """Read what was checked into the arenas; return how many bytes that were."""
    # Whoever looked at whole weights before must not take the old ones for the new.
    runtime.gatherer.drop_all()
    error: Exception | None = None
    num_bytes = 0
    try:
        with reader:
            for part, source in pairs:
                num_bytes += fill(reader, source, part.interval, part.values)
    except Exception as raised:
        error = CheckpointDamaged(
            f"{raised} This happened after all had been checked: somebody changes the "
            "files. The weights are partly loaded; load again before going on"
        )
    exchange(comm, b"", error)
    return num_bytes


def _finish(runtime: Runtime, filled: Collection[Key]) -> None:
    """Let the node see its weights, and take exact weights from them where none came.

    Collective: the ranks of the node.
    """
    runtime.node.hand_over_weights()
    weights = {key.name for key in filled if not key.slot}
    exact = {key.name for key in filled if key.slot == MASTER_WEIGHT}
    for arena in runtime.arenas:
        if MASTER_WEIGHT not in arena.state:
            continue
        for extent, part in arena.bucket.parts_within(arena.updated):
            if extent.name in weights - exact:
                place = part.shift(-arena.updated.start).as_slice()
                master, rounded = arena.state[MASTER_WEIGHT], arena.updated_weight
                np.copyto(master[place], rounded[place], casting="unsafe")
