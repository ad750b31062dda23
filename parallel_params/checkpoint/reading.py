"""Opening a checkpoint and reading ranges of its tensors, each checked by its hash.

Nothing here trusts what it reads: files are ordinary files beside the manifest, of the
length it says; a range is read into memory that its reader has, never into memory of a
size that a file asks for, but for one block.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from parallel_params.checkpoint.hashes import hash_of, hash_of_pieces
from parallel_params.checkpoint.header import MAX_HEADER_BYTES
from parallel_params.checkpoint.manifest import (
    Block,
    Manifest,
    Stored,
    StoredFile,
)
from parallel_params.checkpoint.manifest_codec import decode
from parallel_params.comm.pages import zeros_in_pages
from parallel_params.errors import CheckpointDamaged, CheckpointError
from parallel_params.plan.interval import Interval
from parallel_params.plan.spec import ITEM_BYTES
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 256 << 20
_PIECE_BYTES = 256 << 10
"""What is read at once to be hashed: it is still in the processor's cache then."""
MAX_OPEN_FILES = 64
"""A process may have few hundred open; checkpoints of many ranks have more files."""

# Not to wait for ever for a pipe that somebody has put in the place of a file.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


def open_file(path: Path) -> tuple[int, int]:
    """Return a descriptor to read an ordinary file, and the length of the file.

    Raises:
        CheckpointError: there is none, it is a link, or no ordinary file.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        what = "it is a link" if path.is_symlink() else error.strerror
        raise CheckpointError(f"{path} cannot be read: {what}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path} cannot be read: it is no ordinary file")
    return descriptor, status.st_size


def read_manifest(folder: Path) -> bytes:
    """Return the text of a checkpoint's manifest.

    Raises:
        CheckpointError: there is none, or one that is larger than any of ours.
    """
    path = folder / MANIFEST
    if not path.is_symlink() and not path.exists():
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no {MANIFEST}, which a save writes last"
        )
    descriptor, num_bytes = open_file(path)
    try:
        if num_bytes > MAX_MANIFEST_BYTES:
            raise CheckpointError(
                f"{path} has {num_bytes} bytes; no manifest is larger than "
                f"{MAX_MANIFEST_BYTES}"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(num_bytes)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Reader:
    """A checkpoint on disk.

    Args:
        folder: of the checkpoint.
        manifest: that was read there.
    """

    folder: Path
    manifest: Manifest
    _opened: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(cls, folder: Path) -> "Reader":
        """Read a manifest, and check that its files are there in full length.

        Raises:
            CheckpointError: it is no checkpoint, or none that this version reads.
            CheckpointDamaged: a file or its head is not what was saved.
        """
        where = str(folder / MANIFEST)
        reader = cls(folder, decode(read_manifest(folder), where))
        with reader:
            for index, file in enumerate(reader.manifest.files):
                reader._check_header(index, file)
        return reader

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened.clear()

    def check(self, stored: Stored, interval: Interval) -> int:
        """Check the hashes of all blocks with elements of an interval.

        Returns:
            How many bytes were read for that.

        Raises:
            CheckpointDamaged: naming the file and the tensor.
        """
        num_bytes = 0
        size = min(_PIECE_BYTES, stored.num_bytes)
        buffer = zeros_in_pages(size, np.uint8).data
        for block in blocks_of(stored, interval):
            if hash_of_pieces(self._pieces(block, stored, buffer)) != block.hash:
                self._refuse(
                    block, stored, f"elements {block.interval} are not those saved"
                )
            num_bytes += block.interval.numel * ITEM_BYTES[stored.dtype]
        return num_bytes

    def read(self, stored: Stored, interval: Interval, out: Array) -> None:
        """Read elements of a tensor, without checking them.

        Args:
            stored: which tensor.
            interval: which of its elements.
            out: [interval.numel] of its element type, contiguous.

        Raises:
            CheckpointDamaged: a file is shorter than it was.
        """
        item_bytes = ITEM_BYTES[stored.dtype]
        for block in blocks_of(stored, interval):
            part = block.interval.intersect(interval)
            data = out[part.shift(-interval.start).as_slice()].view(np.uint8).data
            skipped = (part.start - block.interval.start) * item_bytes
            self._read(block, skipped, data, stored)

    def array(self, stored: Stored) -> Array:
        """Return a whole tensor, checked.

        Raises:
            CheckpointDamaged: naming the file and the tensor.
        """
        whole = Interval(0, stored.numel)
        self.check(stored, whole)
        out = np.empty(stored.numel, dtype_named(stored.dtype).numpy)
        self.read(stored, whole, out)
        shaped: Array = out.reshape(stored.shape)
        return shaped

    def _check_header(self, index: int, file: StoredFile) -> None:
        path = self.folder / file.name
        descriptor = self._descriptor(index)
        if file.header_bytes > MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{path}: a head of {file.header_bytes} bytes; none is larger than "
                f"{MAX_HEADER_BYTES}"
            )
        head = os.pread(descriptor, file.header_bytes, 0)
        if hash_of(head) != file.header_hash:
            raise CheckpointDamaged(f"the head of {path} is not the one that was saved")

    def _descriptor(self, index: int) -> int:
        if index not in self._opened:
            file = self.manifest.files[index]
            path = self.folder / file.name
            if len(self._opened) == MAX_OPEN_FILES:
                os.close(self._opened.pop(next(iter(self._opened))))
            descriptor, num_bytes = open_file(path)
            self._opened[index] = descriptor
            if num_bytes != file.num_bytes:
                raise CheckpointDamaged(
                    f"{path} has {num_bytes} bytes and was saved with {file.num_bytes}"
                )
        return self._opened[index]

    def _pieces(
        self, block: Block, stored: Stored, buffer: memoryview
    ) -> Iterator[memoryview]:
        """Yield the bytes of a block, piece by piece in the same buffer."""
        num_bytes = block.interval.numel * ITEM_BYTES[stored.dtype]
        for start in range(0, num_bytes, max(1, len(buffer))):
            piece = buffer[: num_bytes - start]
            self._read(block, start, piece, stored)
            yield piece

    def _read(
        self, block: Block, skipped: int, out: memoryview, stored: Stored
    ) -> None:
        descriptor, place = self._descriptor(block.file), block.offset + skipped
        while out:
            try:
                got = os.preadv(descriptor, [out], place)
            except OSError as error:
                self._refuse(block, stored, f"cannot be read: {error.strerror}")
            if got == 0:
                self._refuse(block, stored, "the file ends before its data")
            out, place = out[got:], place + got

    def _refuse(self, block: Block, stored: Stored, problem: str) -> NoReturn:
        path = self.folder / self.manifest.files[block.file].name
        raise CheckpointDamaged(
            f"{path}: tensor {stored.key}: {problem}. Load an earlier checkpoint; "
            "`pparams ckpt verify` says which are whole"
        )


def blocks_of(stored: Stored, interval: Interval) -> Iterator[Block]:
    """Yield the blocks that have elements of an interval, in order."""
    for block in stored.blocks:
        if not block.interval.intersect(interval).is_empty:
            yield block
