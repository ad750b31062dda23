"""How one rank's values get into files, for each layout.

Each value is written once, from where it is, and hashed on the way; nothing is copied.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from parallel_params.checkpoint.arrange import Arrangement
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.hashes import hash_of
from parallel_params.checkpoint.live import LivePart
from parallel_params.checkpoint.manifest import BLOCK_BYTES, Block, Key, StoredFile
from parallel_params.plan.interval import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What one rank has written.

    Attributes:
        files: that it alone wrote.
        blocks: with the tensors that they are of.
    """

    files: tuple[StoredFile, ...] = ()
    blocks: tuple[tuple[Key, Block], ...] = ()

    def dumps(self) -> bytes:
        """Return it as text, for the other ranks."""
        value = [
            [[f.name, f.num_bytes, f.header_bytes, f.header_hash] for f in self.files],
            [
                [*key, b.file, b.offset, b.interval.start, b.interval.stop, b.hash]
                for key, b in self.blocks
            ],
        ]
        return json.dumps(value).encode()

    @classmethod
    def loads(cls, text: bytes) -> "Written":
        """Return what `dumps` gave on another rank."""
        files, blocks = json.loads(text)
        return cls(
            files=tuple(_stored_file(*each) for each in files),
            blocks=tuple(_block(*each) for each in blocks),
        )


def _stored_file(
    name: str, num_bytes: int, header_bytes: int, header: str
) -> StoredFile:
    return StoredFile(
        name=name, num_bytes=num_bytes, header_bytes=header_bytes, header_hash=header
    )


def _block(
    name: str,
    slot: str,
    index: int,
    file: int,
    offset: int,
    start: int,
    stop: int,
    digest: str,
) -> tuple[Key, Block]:
    interval = Interval(start, stop)
    block = Block(file=file, offset=offset, interval=interval, hash=digest)
    return Key(name, slot, index), block


class Writer(Protocol):
    """Puts values into files in one layout."""

    def prepare(self, files: Files, folder: Path) -> None:
        """Make what several ranks write into; called on the first rank alone."""
        ...

    def begin(
        self, files: Files, folder: Path, received: Iterable[Iterable[LivePart]]
    ) -> None:
        """Make what this rank alone writes into, and write what came from others."""
        ...

    def shared_files(self) -> tuple[StoredFile, ...]:
        """Describe what several ranks write into."""
        ...

    def write(self, files: Files, folder: Path, parts: Iterable[LivePart]) -> Written:
        """Write this rank's values and push them to the disk."""
        ...


class OneWriter:
    """Layout `one`: ranks write side by side into ordinary safetensors files.

    Args:
        arrangement: where everything lies, the same on all ranks.
    """

    def __init__(self, arrangement: Arrangement) -> None:
        self._arrangement = arrangement

    def prepare(self, files: Files, folder: Path) -> None:
        """Make the files with their heads, in full length."""
        for planned in self._arrangement.files:
            descriptor = files.create(folder / planned.name)
            try:
                files.resize(descriptor, planned.num_bytes)
                files.write(descriptor, memoryview(planned.header), 0)
                files.sync(descriptor)
            finally:
                files.close(descriptor)

    def begin(
        self, files: Files, folder: Path, received: Iterable[Iterable[LivePart]]
    ) -> None:
        """Make nothing: no rank has a file of its own."""

    def shared_files(self) -> tuple[StoredFile, ...]:
        """Describe all of them."""
        return tuple(
            StoredFile(
                name=planned.name,
                num_bytes=planned.num_bytes,
                header_bytes=len(planned.header),
                header_hash=hash_of(planned.header),
            )
            for planned in self._arrangement.files
        )

    def write(self, files: Files, folder: Path, parts: Iterable[LivePart]) -> Written:
        """Write this rank's byte ranges."""
        blocks: list[tuple[Key, Block]] = []
        opened: dict[int, int] = {}
        try:
            for part in parts:
                file, start = self._arrangement.places[part.key]
                if file not in opened:
                    name = self._arrangement.files[file].name
                    opened[file] = files.open(folder / name)
                first = start + part.interval.start * part.values.itemsize
                blocks += write_part(files, opened[file], part, file, first)
            for descriptor in opened.values():
                files.sync(descriptor)
        finally:
            for descriptor in opened.values():
                files.close(descriptor)
        return Written(blocks=tuple(blocks))


def write_part(
    files: Files, descriptor: int, part: LivePart, file: int, offset: int
) -> Iterator[tuple[Key, Block]]:
    """Write values block by block from `offset` on, and yield the blocks."""
    values = part.values
    data = values.view(np.uint8).data
    step = BLOCK_BYTES // values.itemsize
    for first in range(0, values.size, step):
        last = min(first + step, values.size)
        piece = data[first * values.itemsize : last * values.itemsize]
        place = offset + first * values.itemsize
        files.write(descriptor, piece, place)
        interval = Interval(first, last).shift(part.interval.start)
        yield (
            part.key,
            Block(file=file, offset=place, interval=interval, hash=hash_of(piece)),
        )
