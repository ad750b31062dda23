"""A file of others as a checkpoint of weights: .safetensors, .npz or .ckpt, no pickle.

What is imported has no optimizer state: load it with `weights_only=True`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from parallel_params.checkpoint.arrange import arrange_in_one
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.foreign_files import Tensors, open_foreign
from parallel_params.checkpoint.live import LivePart
from parallel_params.checkpoint.manifest import Key, Manifest
from parallel_params.checkpoint.names import from_torch, rename
from parallel_params.checkpoint.saving import Contents, Draft
from parallel_params.checkpoint.tensors import Described
from parallel_params.checkpoint.writers import OneWriter
from parallel_params.comm.local import solo
from parallel_params.errors import CheckpointError
from parallel_params.plan.interval import Interval
from parallel_params.plan.spec import ITEM_BYTES, ParamSpec
from parallel_params.plan.text import did_you_mean, name_some

_SLICE = "@slice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a foreign file.

    Attributes:
        path: of the checkpoint.
        taken: names of the parameters in it.
        notes: what was left out or is missing, with near names.
    """

    path: Path
    taken: tuple[str, ...]
    notes: tuple[str, ...]


def import_file(
    source: Path,
    target: Path,
    *,
    renames: Sequence[tuple[str, str]] = (),
    wanted: Sequence[ParamSpec] | None = None,
) -> Imported:
    """Make a checkpoint of the weights in a foreign file.

    Args:
        source: a `.safetensors`, `.npz` or MindSpore's `.ckpt` file.
        target: the folder of the checkpoint, not there yet.
        renames: beginnings of names, old and new.
        wanted: the parameters of a net; then only what fits one of them is taken, and
            PyTorch's names for the same layers are understood.

    Raises:
        CheckpointError: the file cannot be read, or nothing of it fits.
        CheckpointNotSaved: the checkpoint cannot be written.
    """
    with open_foreign(source) as tensors:
        chosen, notes = _choose(tensors, renames, wanted)
        if not chosen:
            raise CheckpointError(f"{source}: nothing fits. {' '.join(notes)}")
        described, parts = [], []
        for (key, num_slices), theirs in _keys(chosen).items():
            array = np.asarray(tensors.array(theirs), order="C")
            if array.dtype.name not in ITEM_BYTES or not array.dtype.isnative:
                notes.append(f"{theirs} is left out: element type {array.dtype}")
                continue
            described.append(
                Described(
                    key=key,
                    num_slices=num_slices,
                    dtype=array.dtype.name,
                    shape=array.shape,
                )
            )
            parts.append(LivePart(key, Interval(0, array.size), array.reshape(-1)))
    described.sort(key=lambda each: -ITEM_BYTES[each.dtype])
    _write(target, source, described, [part for part in parts if part.values.size])
    taken = tuple(dict.fromkeys(each.key.name for each in described))
    return Imported(path=target, taken=taken, notes=tuple(notes))


def _keys(chosen: Mapping[str, str]) -> dict[tuple[Key, int], str]:
    """Return by key and number of slices what it is called there.

    `w@slice0` and so on are slices if all of them are there; else a name.
    """
    numbers: dict[str, set[int]] = {}
    for name in chosen:
        base, end, number = name.rpartition(_SLICE)
        if end and number.isdecimal() and len(number) < 9:
            numbers.setdefault(base, set()).add(int(number))
    keys = {}
    for name, theirs in chosen.items():
        base, _, number = name.rpartition(_SLICE)
        known = numbers.get(base, set())
        is_whole = len(known) > 1 and known == {*range(len(known))}
        key = (Key(base, "", int(number)), len(known)) if is_whole else (Key(name), 1)
        keys[key] = theirs
    return keys


def _write(
    target: Path, source: Path, described: list[Described], parts: list[LivePart]
) -> None:
    version = metadata.version("parallel-params")
    manifest = Manifest(
        step=0,
        serial=1,
        layout="one",
        files=(),
        tensors=(),
        training={},
        cursor=None,
        metric=None,
        extras={"imported_from": source.name},
        plan={},
        written_by=f"parallel_params {version}",
    )
    writer = OneWriter(arrange_in_one(described, {"format": "pt", "step": "0"}))
    contents = Contents(manifest=manifest, tensors=described)
    draft = Draft(solo(), Files(), target, contents, parts, writer)
    draft.begin()
    draft.write()
    draft.commit()


def _choose(
    tensors: Tensors,
    renames: Sequence[tuple[str, str]],
    wanted: Sequence[ParamSpec] | None,
) -> tuple[dict[str, str], list[str]]:
    """Return which of their names becomes which of ours, and what there is to say."""
    renamed = {rename(theirs, renames): theirs for theirs in tensors.names()}
    if wanted is None:
        return renamed, []
    specs: Mapping[str, ParamSpec] = {
        name: spec for spec in wanted for name in spec.names
    }
    chosen: dict[str, str] = {}
    notes: list[str] = []
    for name, theirs in renamed.items():
        spec = specs.get(from_torch(name, specs))
        base, end, number = name.rpartition(_SLICE)
        if spec is None and end and number.isdecimal():
            spec = specs.get(from_torch(base, specs))
        if spec is None:
            notes.append(f"{theirs} is not used. {did_you_mean(name, specs)}")
        elif (shape := tensors.shape(theirs)) != spec.shape:
            notes.append(
                f"{theirs} is not used: shape {shape}, and {spec.name} has {spec.shape}"
            )
        else:
            is_slice = name not in specs and end
            chosen[spec.name + (end + number if is_slice else "")] = theirs
    found = {key.name for key, _ in _keys(chosen)}
    missing = [spec.name for spec in wanted if spec.name not in found]
    if missing:
        notes.append(f"not in the file: {name_some(missing, most=12)}")
    return chosen, notes
