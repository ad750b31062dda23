"""Layout `shards`: every rank writes its own files, as PyTorch's DCP does and reads.

A file has, by name, one box of each tensor that the rank owns a part of, and its head
says where in the tensor that box lies. A file can have a name once, so the second and
third box of a tensor that is cut inside of a row go to a second and third file.

Source: `HuggingFaceStorageWriter` and `HuggingFaceStorageReader` of PyTorch 2.13,
torch.distributed.checkpoint: names of files, `DCP_SHARDING_INFO`, `saved_offsets`.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from parallel_params.checkpoint.arrange import check_file_keys
from parallel_params.checkpoint.boxes import Box, boxes_of
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.hashes import hash_of
from parallel_params.checkpoint.header import Entry, encode_header
from parallel_params.checkpoint.live import LivePart
from parallel_params.checkpoint.manifest import Block, Key, StoredFile, file_key
from parallel_params.checkpoint.tensors import Described
from parallel_params.checkpoint.writers import Written, write_part
from parallel_params.plan.interval import Interval
from parallel_params.plan.spec import ITEM_BYTES

_VERSION = "1.0"


class _Piece(NamedTuple):
    """One box on its way into a file; without values if it has no elements."""

    described: Described
    box: Box
    part: LivePart | None


class ShardsWriter:
    """Writes what a rank owns into files of its own.

    Args:
        tensors: of the whole state, in the order of the files.
        metadata: kept in the head of every file.
        rank: whose files these are.

    Raises:
        CheckpointNotSaved: two tensors would have one name.
    """

    def __init__(
        self, tensors: Sequence[Described], metadata: Mapping[str, str], *, rank: int
    ) -> None:
        check_file_keys(tensors)
        self._tensors = {each.key: each for each in tensors}
        self._metadata, self._rank = metadata, rank

    def prepare(self, files: Files, folder: Path) -> None:
        """Make nothing: every rank makes its own files."""

    def shared_files(self) -> tuple[StoredFile, ...]:
        """Describe none: no file is of several ranks."""
        return ()

    def write(self, files: Files, folder: Path, parts: Iterable[LivePart]) -> Written:
        """Write this rank's files, and push them and their names to the disk."""
        rounds = self._rounds(parts)
        written: list[StoredFile] = []
        blocks: list[tuple[Key, Block]] = []
        for number, pieces in enumerate(rounds):
            name = (
                f"shard-{self._rank + 1:05}-model-{number + 1:05}-of-"
                f"{len(rounds):05}.safetensors"
            )
            file, inside = self._write_file(files, folder / name, pieces, number)
            written.append(file)
            blocks += inside
        if written:
            files.sync_folder(folder)
        return Written(files=tuple(written), blocks=tuple(blocks))

    def _rounds(self, parts: Iterable[LivePart]) -> list[list[_Piece]]:
        """Return what each file gets: of every tensor one box at most."""
        pieces: dict[Key, list[_Piece]] = {}
        for described in self._tensors.values() if self._rank == 0 else ():
            if math.prod(described.shape) == 0:  # nobody has a part of it
                origin = (0,) * len(described.shape)
                box = Box(origin, described.shape, Interval(0, 0))
                pieces[described.key] = [_Piece(described, box, None)]
        for part in parts:
            described = self._tensors[part.key]
            for box in boxes_of(described.shape, part.interval):
                place = box.interval.shift(-part.interval.start)
                values = part.values[place.as_slice()]
                cut = LivePart(part.key, box.interval, values)
                pieces.setdefault(part.key, []).append(_Piece(described, box, cut))
        most = max(map(len, pieces.values()), default=0)
        rounds = [[p[i] for p in pieces.values() if i < len(p)] for i in range(most)]
        for each in rounds:
            # Then every box starts at a multiple of its element.
            each.sort(key=lambda piece: -ITEM_BYTES[piece.described.dtype])
        return rounds

    def _write_file(
        self, files: Files, path: Path, pieces: Sequence[_Piece], file: int
    ) -> tuple[StoredFile, list[tuple[Key, Block]]]:
        entries, start = [], 0
        offsets = {}
        for described, box, _ in pieces:
            key = file_key(described.key, described.num_slices)
            entry = Entry(key=key, dtype=described.dtype, shape=box.shape, start=start)
            entries.append(entry)
            offsets[key] = {"saved_offsets": box.offsets}
            start += entry.num_bytes
        own = {"DCP_VERSION": _VERSION, "DCP_SHARDING_INFO": json.dumps(offsets)}
        header = encode_header(entries, {**self._metadata, **own})
        blocks: list[tuple[Key, Block]] = []
        descriptor = files.create(path)
        try:
            files.write(descriptor, memoryview(header), 0)
            for entry, (_, _, part) in zip(entries, pieces, strict=True):
                if part is not None:
                    place = len(header) + entry.start
                    blocks += write_part(files, descriptor, part, file, place)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
        stored = StoredFile(
            name=path.name,
            num_bytes=len(header) + start,
            header_bytes=len(header),
            header_hash=hash_of(header),
        )
        return stored, blocks
