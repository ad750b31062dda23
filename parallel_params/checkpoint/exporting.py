"""A checkpoint as one file that other programs open, one tensor in memory at a time."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from parallel_params.checkpoint.foreign_files import SUFFIXES
from parallel_params.checkpoint.manifest import Key, Manifest, file_key
from parallel_params.checkpoint.names import rename, to_torch
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.single_file import (
    Head,
    write_ckpt,
    write_npz,
    write_safetensors,
    written_aside,
)
from parallel_params.checkpoint.slices import slices_of
from parallel_params.checkpoint.sources import Copied, Recut, joined, read_whole
from parallel_params.errors import CheckpointError, CheckpointNotSaved


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What tensors are called in a file of others.

    Attributes:
        is_torch: as PyTorch does; else as here, which is as MindSpore does.
        renames: beginnings of names, old and new, tried before that.
    """

    is_torch: bool = False
    renames: Sequence[tuple[str, str]] = ()

    def name_of(self, key: Key, num_slices: int) -> str:
        """Return the name of a tensor, whose parameter is renamed with its state."""
        name = rename(key.name, self.renames)
        name = to_torch(name) if self.is_torch else name
        return file_key(key._replace(name=name), num_slices)


def export(
    reader: Reader, target: Path, naming: Naming, *, has_state: bool = False
) -> list[str]:
    """Write the weights of a checkpoint as one file; its suffix says which kind.

    Slices of one tensor are joined; what else is layerwise-parallel stays in slices,
    called `name@slice0` and so on.

    Args:
        reader: of the checkpoint.
        target: a `.safetensors`, `.npz` or `.ckpt` file that is not there yet.
        naming: of the tensors.
        has_state: whether optimizer state goes with the weights.

    Returns:
        What is otherwise than in the checkpoint, for a person.

    Raises:
        CheckpointError: unknown suffix, or two tensors of one name.
        CheckpointNotSaved: the file is there, or cannot be written.
        CheckpointDamaged: the checkpoint is.
    """
    if target.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{target}: expected a name that ends in {' or '.join(SUFFIXES)}"
        )
    if os.path.lexists(target):
        raise CheckpointNotSaved(f"{target} is there already; give another name")
    named = _named(reader, naming, has_state=has_state)
    heads = [
        Head(name=name, dtype=source.dtype, shape=source.shape)
        for name, source in named
    ]
    aside = target.with_name(target.name + ".tmp")
    with written_aside(target, aside), reader:
        arrays = (read_whole(reader, source) for _, source in named)
        if target.suffix == ".npz":
            return write_npz(aside, heads, arrays)
        if target.suffix == ".ckpt":
            write_ckpt(aside, heads, arrays)
            return []
        facts = {"format": "pt", "step": str(reader.manifest.step)}
        write_safetensors(aside, heads, arrays, facts)
        return []


def _named(
    reader: Reader, naming: Naming, *, has_state: bool
) -> list[tuple[str, Copied | Recut]]:
    named: dict[str, Copied | Recut] = {}
    for key, source in _tensors(reader.manifest):
        if key.slot and not has_state:
            continue
        num_slices = 1 if isinstance(source, Recut) else source.stored.num_slices
        name = naming.name_of(key, num_slices)
        if name in named or name == "__metadata__":
            raise CheckpointError(
                f"{key} and another tensor, or the head, would both be called "
                f"{name!r}; rename one"
            )
        named[name] = source
    return list(named.items())


def _tensors(manifest: Manifest) -> Iterator[tuple[Key, Copied | Recut]]:
    """Yield every tensor, those once that slices make together."""
    for stored in manifest.tensors:
        if stored.num_slices == 1 or stored.slice_dim is None:
            yield stored.key, Copied(stored)
        elif stored.key.slice_index == 0:
            yield stored.key, joined(slices_of(manifest, stored), stored.slice_dim)
