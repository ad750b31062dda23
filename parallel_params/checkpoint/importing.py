"""A file of others as a checkpoint of weights: safetensors or .npz, never pickle.

What is imported has no optimizer state: load it with `weights_only=True`.
"""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np

from parallel_params.checkpoint.arrange import arrange_in_one
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.header import decode_header, header_size
from parallel_params.checkpoint.live import LivePart
from parallel_params.checkpoint.manifest import Key, Manifest
from parallel_params.checkpoint.names import from_torch, rename
from parallel_params.checkpoint.reading import open_file
from parallel_params.checkpoint.saving import Contents, Draft
from parallel_params.checkpoint.tensors import Described
from parallel_params.checkpoint.writers import OneWriter
from parallel_params.comm.local import solo
from parallel_params.errors import CheckpointError
from parallel_params.plan.interval import Interval
from parallel_params.plan.spec import ITEM_BYTES, ParamSpec
from parallel_params.plan.text import did_you_mean, name_some
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array


class Tensors(Protocol):
    """The tensors of a foreign file, read one by one."""

    def names(self) -> Sequence[str]:
        """Return what they are called there."""
        ...

    def array(self, name: str) -> Array:
        """Return one of them."""
        ...


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
        source: a `.safetensors` or `.npz` file.
        target: the folder of the checkpoint, not there yet.
        renames: beginnings of names, old and new.
        wanted: the parameters of a net; then only what fits one of them is taken, and
            PyTorch's names for the same layers are understood.

    Raises:
        CheckpointError: the file cannot be read, or nothing of it fits.
        CheckpointNotSaved: the checkpoint cannot be written.
    """
    with _open(source) as tensors:
        chosen, notes = _choose(tensors, renames, wanted)
        if not chosen:
            raise CheckpointError(f"{source}: nothing fits. {' '.join(notes)}")
        described, parts = [], []
        for name, theirs in chosen.items():
            array = np.asarray(tensors.array(theirs), order="C")
            if array.dtype.name not in ITEM_BYTES or not array.dtype.isnative:
                notes.append(f"{theirs} is left out: element type {array.dtype}")
                continue
            described.append(
                Described(
                    key=Key(name),
                    num_slices=1,
                    dtype=array.dtype.name,
                    shape=array.shape,
                )
            )
            whole = Interval(0, array.size)
            parts.append(LivePart(Key(name), whole, array.reshape(-1)))
    described.sort(key=lambda each: -ITEM_BYTES[each.dtype])
    _write(target, source, described, [part for part in parts if part.values.size])
    taken = tuple(each.key.name for each in described)
    return Imported(path=target, taken=taken, notes=tuple(notes))


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
        training={
            "num_steps": 0,
            "num_skipped": 0,
            "num_good": 0,
            "loss_scale": 1.0,
            "random": {"seed": 0, "num_drawn": 0},
            "optimizers": [],
        },
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
        if spec is None:
            notes.append(f"{theirs} is not used. {did_you_mean(name, specs)}")
        elif tuple(tensors.array(theirs).shape) != spec.shape:
            shape = tuple(tensors.array(theirs).shape)
            notes.append(
                f"{theirs} is not used: shape {shape}, and {spec.name} has {spec.shape}"
            )
        else:
            chosen[spec.name] = theirs
    missing = [spec.name for spec in wanted if spec.name not in chosen]
    if missing:
        notes.append(f"not in the file: {name_some(missing, most=12)}")
    return chosen, notes


@contextmanager
def _open(path: Path) -> Iterator[Tensors]:
    if path.suffix == ".safetensors":
        descriptor, num_bytes = open_file(path)
        try:
            yield _Safetensors(path, descriptor, num_bytes)
        finally:
            os.close(descriptor)
    elif path.suffix == ".npz":
        descriptor, _ = open_file(path)
        try:
            with os.fdopen(descriptor, "rb") as file:
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise ValueError("it is no archive of arrays")
                yield _Npz(archive)
        except CheckpointError:
            raise
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
    else:
        raise CheckpointError(f"{path}: expected a .safetensors or .npz file")


class _Safetensors:
    """A safetensors file whose head was checked."""

    def __init__(self, path: Path, descriptor: int, num_bytes: int) -> None:
        self._descriptor, self._path = descriptor, path
        self._head = header_size(os.pread(descriptor, 8, 0), num_bytes, str(path))
        content = os.pread(descriptor, self._head, 0)
        entries, _ = decode_header(content, num_bytes, str(path))
        self._entries = {entry.key: entry for entry in entries}

    def names(self) -> Sequence[str]:
        return list(self._entries)

    def array(self, name: str) -> Array:
        entry = self._entries[name]
        out = np.empty(entry.num_bytes, np.uint8)
        view, place = out.data, self._head + entry.start
        while view:
            got = os.preadv(self._descriptor, [view], place)
            if got == 0:
                raise CheckpointError(f"{self._path}: tensor {name!r} is cut short")
            view, place = view[got:], place + got
        array: Array = out.view(dtype_named(entry.dtype).numpy).reshape(entry.shape)
        return array


class _Npz:
    """An .npz archive; arrays of Python objects are refused by NumPy."""

    def __init__(self, archive: "np.lib.npyio.NpzFile") -> None:
        self._archive = archive

    def names(self) -> Sequence[str]:
        return list(self._archive.files)

    def array(self, name: str) -> Array:
        array: Array = self._archive[name]
        return array
