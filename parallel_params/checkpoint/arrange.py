"""Where the bytes of every tensor lie: which file, which place in it.

Layout `one` has ordinary safetensors files, each tensor whole in one of them, into
which the ranks write side by side. Everything follows from the plan, so all ranks
arrange alike without a message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parallel_params.checkpoint.header import METADATA, Entry, encode_header
from parallel_params.checkpoint.manifest import Key, file_key
from parallel_params.checkpoint.tensors import Described
from parallel_params.errors import CheckpointNotSaved

FILE_BYTES = 4 << 30
"""Bytes of data after which a further file is begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file that will be.

    Attributes:
        name: beside the manifest.
        header: its head.
        num_bytes: its length, the head included.
    """

    name: str
    header: bytes
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """All files of a checkpoint in layout `one`.

    Attributes:
        files: in order.
        places: by tensor: its file's index, and the byte where it starts there.
    """

    files: tuple[PlannedFile, ...]
    places: Mapping[Key, tuple[int, int]]


def arrange_in_one(
    tensors: Sequence[Described],
    metadata: Mapping[str, str],
    *,
    file_bytes: int = FILE_BYTES,
) -> Arrangement:
    """Put tensors into files one behind the other, weights and states apart.

    Args:
        tensors: in the order of the files.
        metadata: kept in the head of every file.
        file_bytes: a further file is begun rather than passing this.

    Raises:
        CheckpointNotSaved: two tensors would have one name in a file.
    """
    files: list[PlannedFile] = []
    places: dict[Key, tuple[int, int]] = {}
    for stem, has_slot in (("model", False), ("optim", True)):
        wanted = [each for each in tensors if bool(each.key.slot) == has_slot]
        groups = _share(wanted, file_bytes)
        for number, group in enumerate(groups):
            entries = _entries(group)
            header = encode_header(entries, metadata)
            for each, entry in zip(group, entries, strict=True):
                places[each.key] = len(files), len(header) + entry.start
            end = entries[-1].start + entries[-1].num_bytes if entries else 0
            suffix = f"-{number + 1:05}-of-{len(groups):05}" if len(groups) > 1 else ""
            files.append(
                PlannedFile(
                    name=f"{stem}{suffix}.safetensors",
                    header=header,
                    num_bytes=len(header) + end,
                )
            )
    return Arrangement(files=tuple(files), places=places)


def _share(tensors: Sequence[Described], file_bytes: int) -> list[list[Described]]:
    groups: list[list[Described]] = []
    filled = 0
    for each in tensors:
        size = Entry(key="", dtype=each.dtype, shape=each.shape, start=0).num_bytes
        if not groups or (groups[-1] and filled + size > file_bytes):
            groups.append([])
            filled = 0
        groups[-1].append(each)
        filled += size
    return groups


def check_file_keys(tensors: Sequence[Described]) -> None:
    """Refuse tensors that would have one name in a file.

    Raises:
        CheckpointNotSaved: naming it.
    """
    known: set[str] = {METADATA}
    for each in tensors:
        key = file_key(each.key, each.num_slices)
        if key in known:
            raise CheckpointNotSaved(
                f"two tensors would be called {key!r} in one file, one of them "
                f"{each.key}; rename a parameter"
            )
        known.add(key)


def _entries(tensors: Sequence[Described]) -> list[Entry]:
    check_file_keys(tensors)
    entries: list[Entry] = []
    start = 0
    for each in tensors:
        key = file_key(each.key, each.num_slices)
        entry = Entry(key=key, dtype=each.dtype, shape=each.shape, start=start)
        entries.append(entry)
        start += entry.num_bytes
    return entries
