"""Tensors as one file for other programs: safetensors, NumPy's .npz, MindSpore's .ckpt.

One tensor is in memory at a time. Files are written under another name and get their
own when all of it is on the disk.
"""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parallel_params.checkpoint.ckpt_format import TEXT, encode_head, encode_trailer
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.header import Entry, encode_header
from parallel_params.errors import CheckpointNotSaved
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array

PIECE_BYTES = 512 << 20
"""Bytes of a tensor in one value of a `.ckpt` file, as MindSpore cuts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a file says of one tensor.

    Attributes:
        name: of the tensor.
        dtype: NumPy's name, `bfloat16`, or in `.ckpt` files `ckpt_format.TEXT`.
        shape: of the tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@contextmanager
def written_aside(target: Path, aside: Path) -> Iterator[None]:
    """Have a file written as `aside`, which gets the name `target` in the end.

    Raises:
        CheckpointNotSaved: the system refuses; `aside` is taken away.
    """
    try:
        aside.unlink(missing_ok=True)
        yield
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


def write_safetensors(
    path: Path,
    heads: Sequence[Head],
    arrays: Iterable[Array],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file and push it to the disk.

    Args:
        path: of the file, not there yet.
        heads: in the order of the data.
        arrays: theirs.
        metadata: texts for the head of the file.

    Raises:
        OSError: the system refuses.
    """
    entries, start = [], 0
    for head in heads:
        entry = Entry(key=head.name, dtype=head.dtype, shape=head.shape, start=start)
        entries.append(entry)
        start += entry.num_bytes
    header = encode_header(entries, metadata)
    with _created(path) as (files, descriptor):
        files.write(descriptor, memoryview(header), 0)
        for entry, array in zip(entries, arrays, strict=True):
            files.write(descriptor, bytes_of(array), len(header) + entry.start)


def write_npz(path: Path, heads: Sequence[Head], arrays: Iterable[Array]) -> list[str]:
    """Write an .npz archive and push it to the disk.

    Returns:
        What is otherwise there, for a person.

    Raises:
        OSError: the system refuses.
    """
    notes = []
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for head, array in zip(heads, arrays, strict=True):
                plain = array
                if head.dtype == "bfloat16":
                    plain = array.astype(np.float32)
                    notes.append(f"{head.name} is float32 there: .npz has no bfloat16")
                with archive.open(f"{head.name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, plain, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return notes


def write_ckpt(
    path: Path,
    heads: Sequence[Head],
    arrays: Iterable[Array],
    *,
    has_checksum: bool = False,
    piece_bytes: int = PIECE_BYTES,
) -> None:
    """Write a `.ckpt` file of MindSpore's and push it to the disk.

    Args:
        path: of the file, not there yet.
        heads: in the order of the file.
        arrays: theirs; of a text its UTF-32.
        has_checksum: whether a CRC-32 comes at the end.
        piece_bytes: larger tensors are written in parts, for the readers of a protobuf
            library, whose messages end at 2 GiB.

    Raises:
        OSError: the system refuses.
    """
    place = checksum = 0
    with _created(path) as (files, descriptor):
        for head, array in zip(heads, arrays, strict=True):
            for part in _parts(head, bytes_of(array), piece_bytes):
                files.write(descriptor, part, place)
                checksum = zlib.crc32(part, checksum) if has_checksum else 0
                place += len(part)
        if has_checksum:
            files.write(descriptor, memoryview(encode_trailer(checksum)), place)


def _parts(head: Head, data: memoryview, piece_bytes: int) -> Iterator[memoryview]:
    is_text = head.dtype == TEXT
    type_name = TEXT if is_text else str(dtype_named(head.dtype))
    dims = (0,) if is_text else head.shape
    for start in range(0, max(len(data), 1), piece_bytes):
        piece = data[start : start + piece_bytes]
        yield memoryview(encode_head(head.name, type_name, dims, len(piece)))
        yield piece


def bytes_of(array: Array) -> memoryview:
    """Return the bytes of an array in C order; a view if it is in that order."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data


@contextmanager
def _created(path: Path) -> Iterator[tuple[Files, int]]:
    files = Files()
    descriptor = files.create(path)
    try:
        yield files, descriptor
        files.sync(descriptor)
    finally:
        files.close(descriptor)
