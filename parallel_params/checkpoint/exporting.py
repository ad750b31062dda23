"""A checkpoint as one file that other programs open, one tensor in memory at a time."""

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.header import Entry, encode_header
from parallel_params.checkpoint.manifest import Stored
from parallel_params.checkpoint.names import rename, to_torch
from parallel_params.checkpoint.reading import Reader
from parallel_params.errors import CheckpointError, CheckpointNotSaved
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What tensors are called in a file of others.

    Attributes:
        is_torch: as PyTorch does; else as here, which is as MindSpore does.
        renames: beginnings of names, old and new, tried before that.
    """

    is_torch: bool = False
    renames: Sequence[tuple[str, str]] = ()

    def name_of(self, stored: Stored) -> str:
        """Return the name of a tensor."""
        name = rename(stored.file_key, self.renames)
        return to_torch(name) if self.is_torch else name


def export(
    reader: Reader, target: Path, naming: Naming, *, has_state: bool = False
) -> list[str]:
    """Write the weights of a checkpoint as one file; its suffix says which kind.

    Args:
        reader: of the checkpoint.
        target: a `.safetensors` or `.npz` file that is not there yet.
        naming: of the tensors.
        has_state: whether optimizer state goes with the weights.

    Returns:
        What is otherwise than in the checkpoint, for a person.

    Raises:
        CheckpointError: unknown suffix, or two tensors of one name.
        CheckpointNotSaved: the file is there, or cannot be written.
        CheckpointDamaged: the checkpoint is.
    """
    writers = {".safetensors": _write_safetensors, ".npz": _write_npz}
    write = writers.get(target.suffix)
    if write is None:
        raise CheckpointError(
            f"{target}: expected a name that ends in {' or '.join(writers)}"
        )
    if os.path.lexists(target):
        raise CheckpointNotSaved(f"{target} is there already; give another name")
    named = _named(reader, naming, has_state=has_state)
    aside = target.with_name(target.name + ".tmp")
    try:
        aside.unlink(missing_ok=True)
        notes = write(reader, aside, named)
        Files().rename(aside, target)
        Files().sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, CheckpointNotSaved):
            raise
        raise CheckpointNotSaved(
            f"{target} cannot be written: {error.strerror or error}"
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return notes


def _named(
    reader: Reader, naming: Naming, *, has_state: bool
) -> list[tuple[str, Stored]]:
    wanted = [t for t in reader.manifest.tensors if has_state or not t.key.slot]
    named: dict[str, Stored] = {}
    for stored in wanted:
        name = naming.name_of(stored)
        if name in named or name == "__metadata__":
            raise CheckpointError(
                f"{stored.key} and {named[name].key if name in named else 'the head'} "
                f"would both be called {name!r}; rename one"
            )
        named[name] = stored
    return list(named.items())


def _arrays(
    reader: Reader, named: Sequence[tuple[str, Stored]]
) -> Iterator[tuple[str, Array]]:
    with reader:
        for name, stored in named:
            yield name, reader.array(stored)


def _write_safetensors(
    reader: Reader, path: Path, named: Sequence[tuple[str, Stored]]
) -> list[str]:
    entries, start = [], 0
    for name, stored in named:
        entries.append(
            Entry(key=name, dtype=stored.dtype, shape=stored.shape, start=start)
        )
        start += stored.num_bytes
    header = encode_header(entries, {"format": "pt", "step": str(reader.manifest.step)})
    files = Files()
    descriptor = files.create(path)
    try:
        files.write(descriptor, memoryview(header), 0)
        for entry, (_, array) in zip(entries, _arrays(reader, named), strict=True):
            data = array.reshape(-1).view(np.uint8).data
            files.write(descriptor, data, len(header) + entry.start)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    return []


def _write_npz(
    reader: Reader, path: Path, named: Sequence[tuple[str, Stored]]
) -> list[str]:
    notes = []
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in _arrays(reader, named):
                plain = array
                if array.dtype.name == "bfloat16":
                    plain = array.astype(np.float32)
                    notes.append(f"{name} is float32 there: .npz has no bfloat16")
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, plain, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return notes
