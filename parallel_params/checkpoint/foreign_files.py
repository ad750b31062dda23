"""Files of tensors that others wrote: safetensors, NumPy's .npz, MindSpore's .ckpt.

Their tensors are read one by one. Nothing is unpickled, and no memory is taken for what
a file says of itself before that fits its length.
"""

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile, is_zipfile

import numpy as np

from parallel_params.checkpoint.ckpt_format import (
    TEXT,
    TRAILER_BYTES,
    CkptTensor,
    compute_checksum,
    find_checksum,
    read_index,
)
from parallel_params.checkpoint.header import Entry, decode_header, header_size
from parallel_params.checkpoint.reading import open_file
from parallel_params.errors import CheckpointDamaged, CheckpointError
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array

SUFFIXES = (".safetensors", ".npz", ".ckpt")


class Tensors(Protocol):
    """The tensors of a foreign file, read one by one."""

    def names(self) -> Sequence[str]:
        """Return what they are called there, in the order of the file."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one of them."""
        ...

    def array(self, name: str) -> Array:
        """Return one of them."""
        ...


@contextmanager
def open_foreign(path: Path, kind: str | None = None) -> Iterator[Tensors]:
    """Open a file of tensors.

    Args:
        path: of the file.
        kind: one of `SUFFIXES`; that of its name by default.

    Raises:
        CheckpointError: it cannot be read, or is none of these.
        CheckpointDamaged: it ends too early, or a tensor is not as large as it says.
    """
    kind = path.suffix if kind is None else kind
    if kind not in SUFFIXES:
        raise CheckpointError(f"{path}: expected a {', '.join(SUFFIXES)} file")
    descriptor, num_bytes = open_file(path)
    if kind == ".npz":
        with _open_npz(path, descriptor) as npz:
            yield npz
        return
    try:
        if kind == ".ckpt":
            yield CkptFile(path, descriptor, num_bytes)
        else:
            yield SafetensorsFile(path, descriptor, num_bytes)
    finally:
        os.close(descriptor)


@contextmanager
def _open_npz(path: Path, descriptor: int) -> Iterator["NpzFile"]:
    try:
        with os.fdopen(descriptor, "rb") as file:
            if not is_zipfile(file):  # NumPy takes anything else for a pickle
                raise ValueError("it is no archive of arrays")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is no archive of arrays")
            yield NpzFile(path, archive)
    except CheckpointError:
        raise
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


class SafetensorsFile:
    """A safetensors file whose head was checked.

    Attributes:
        metadata: the texts in its head.
    """

    def __init__(self, path: Path, descriptor: int, num_bytes: int) -> None:
        self._descriptor, self._path = descriptor, path
        self._head = header_size(os.pread(descriptor, 8, 0), num_bytes, str(path))
        content = os.pread(descriptor, self._head, 0)
        entries, self.metadata = decode_header(content, num_bytes, str(path))
        self._entries: dict[str, Entry] = {entry.key: entry for entry in entries}

    def names(self) -> Sequence[str]:
        """Return what the tensors are called, in the order of their data."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one of them."""
        return self._entries[name].shape

    def array(self, name: str) -> Array:
        """Return one of them."""
        entry = self._entries[name]
        pieces = [(self._head + entry.start, entry.num_bytes)]
        data = read_pieces(self._descriptor, pieces, f"{self._path}: tensor {name!r}")
        array: Array = data.view(dtype_named(entry.dtype).numpy).reshape(entry.shape)
        return array


class CkptFile:
    """A `.ckpt` file of MindSpore whose index was read and checked.

    Attributes:
        tensors: by name, texts among them, in the order of the file.
    """

    def __init__(self, path: Path, descriptor: int, num_bytes: int) -> None:
        self._path, self._descriptor, self._num_bytes = path, descriptor, num_bytes
        found = read_index(descriptor, num_bytes, str(path))
        self.tensors: dict[str, CkptTensor] = {each.name: each for each in found}

    def names(self) -> Sequence[str]:
        """Return what the tensors are called; texts are left out."""
        return [each.name for each in self.tensors.values() if each.dtype != TEXT]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one of them."""
        return self.tensors[name].shape

    def array(self, name: str) -> Array:
        """Return one of them."""
        tensor = self.tensors[name]
        data = self._read(tensor).view(dtype_named(tensor.dtype).numpy)
        array: Array = data.reshape(tensor.shape)
        return array

    def text(self, name: str) -> str:
        """Return one of the texts.

        Raises:
            CheckpointDamaged: it is none.
        """
        try:
            return (
                self._read(self.tensors[name])
                .tobytes()
                .decode("utf-32-le")
                .rstrip("\0")
            )
        except UnicodeDecodeError as error:
            raise CheckpointDamaged(f"{self._path}: {name!r} is no text") from error

    def verify(self) -> bool:
        """Compare the CRC-32 of the file; return whether it has one.

        Raises:
            CheckpointDamaged: it has another.
        """
        expected = find_checksum(self._descriptor, self._num_bytes)
        if expected is None:
            return False
        found = compute_checksum(self._descriptor, self._num_bytes - TRAILER_BYTES)
        if found != expected:
            raise CheckpointDamaged(
                f"{self._path} was changed after it was written: its CRC-32 is "
                f"{found:08x}, and it says {expected:08x}"
            )
        return True

    def _read(self, tensor: CkptTensor) -> Array:
        where = f"{self._path}: tensor {tensor.name!r}"
        return read_pieces(self._descriptor, tensor.pieces, where)


class NpzFile:
    """An .npz archive; arrays of Python objects are refused by NumPy."""

    def __init__(self, path: Path, archive: "np.lib.npyio.NpzFile") -> None:
        self._path, self._archive = path, archive

    def names(self) -> Sequence[str]:
        """Return what the arrays are called."""
        return list(self._archive.files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one of them, without reading it.

        Raises:
            CheckpointDamaged: it says that it is larger than its member.
        """
        archive = self._archive.zip
        assert archive is not None
        names = archive.namelist()
        member = name if name in names else f"{name}.npy"
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read is None:
                raise ValueError(f"{name} is an array of format {version}")
            shape, _, dtype = read(file)
        num_bytes, has = math.prod(shape) * dtype.itemsize, archive.getinfo(member)
        if min(shape, default=0) < 0 or num_bytes > has.file_size:
            raise CheckpointDamaged(
                f"{self._path}: {name} of shape {shape} and type {dtype} needs "
                f"{num_bytes} bytes and has {has.file_size}"
            )
        return tuple(shape)

    def array(self, name: str) -> Array:
        """Return one of them."""
        self.shape(name)
        array: Array = self._archive[name]
        return array


def read_pieces(
    descriptor: int, pieces: Sequence[tuple[int, int]], where: str
) -> Array:
    """Return bytes that lie in one or several parts of a file, as uint8.

    Raises:
        CheckpointDamaged: the file has become shorter.
    """
    out = np.empty(sum(length for _, length in pieces), np.uint8)
    rest = out.data
    for place, length in pieces:
        view, rest = rest[:length], rest[length:]
        while view:
            got = os.preadv(descriptor, [view], place)
            if got == 0:
                raise CheckpointDamaged(f"{where} is cut short")
            view, place = view[got:], place + got
    whole: Array = out
    return whole
