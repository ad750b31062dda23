"""Layout `shards`: every rank writes one file of its own, as PyTorch's DCP reads them.

A file has, by name, the box that the rank writes of each tensor (see `edges.py`), and
its head says where in the tensor that box lies.

Source: `HuggingFaceStorageWriter` and `HuggingFaceStorageReader` of PyTorch 2.13,
torch.distributed.checkpoint: names of files, `DCP_SHARDING_INFO`, `saved_offsets`.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

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


class ShardsWriter:
    """Writes into the file of one rank.

    Args:
        tensors: of the whole state, in the order of the files.
        metadata: kept in the head of every file.
        rank: whose file this is.
        written: by tensor, which elements it gets: one box.

    Raises:
        CheckpointNotSaved: two tensors would have one name.
    """

    def __init__(
        self,
        tensors: Sequence[Described],
        metadata: Mapping[str, str],
        *,
        rank: int,
        written: Mapping[Key, Interval],
    ) -> None:
        check_file_keys(tensors)
        self._name = f"shard-{rank + 1:05}-model-00001-of-00001.safetensors"
        boxes = [*_boxes(tensors, written, is_first=rank == 0)]
        # Then every box starts at a multiple of its element.
        boxes.sort(key=lambda pair: -ITEM_BYTES[pair[0].dtype])
        entries, start = [], 0
        for described, box in boxes:
            key = file_key(described.key, described.num_slices)
            entry = Entry(key=key, dtype=described.dtype, shape=box.shape, start=start)
            entries.append(entry)
            start += entry.num_bytes
        offsets = {
            entry.key: {"saved_offsets": box.offsets}
            for entry, (_, box) in zip(entries, boxes, strict=True)
        }
        own = {"DCP_VERSION": _VERSION, "DCP_SHARDING_INFO": json.dumps(offsets)}
        self._header = encode_header(entries, {**metadata, **own})
        self._num_bytes = len(self._header) + start
        # Where element 0 would be.
        self._places = {
            described.key: len(self._header)
            + entry.start
            - box.interval.start * ITEM_BYTES[entry.dtype]
            for entry, (described, box) in zip(entries, boxes, strict=True)
        }
        self._blocks: list[tuple[Key, Block]] = []

    def prepare(self, files: Files, folder: Path) -> None:
        """Make nothing: no file is of several ranks."""

    def begin(
        self, files: Files, folder: Path, received: Iterable[Iterable[LivePart]]
    ) -> None:
        """Make the file with its head, and write what others own of it.

        A rank that writes nothing has none, as in PyTorch, whose
        `consolidate_safetensors_files` refuses one without tensors.
        """
        if not self._places:
            for _ in received:  # it may still have to give
                pass
            return
        descriptor = files.create(folder / self._name)
        try:
            files.write(descriptor, memoryview(self._header), 0)
            for parts in received:
                self._write(files, descriptor, parts)
        finally:
            files.close(descriptor)

    def shared_files(self) -> tuple[StoredFile, ...]:
        """Describe none."""
        return ()

    def write(self, files: Files, folder: Path, parts: Iterable[LivePart]) -> Written:
        """Write this rank's own values, and push the whole file and its name."""
        if not self._places:
            return Written()
        descriptor = files.open(folder / self._name)
        try:
            self._write(files, descriptor, parts)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
        files.sync_folder(folder)
        stored = StoredFile(
            name=self._name,
            num_bytes=self._num_bytes,
            header_bytes=len(self._header),
            header_hash=hash_of(self._header),
        )
        return Written(files=(stored,), blocks=tuple(self._blocks))

    def _write(self, files: Files, descriptor: int, parts: Iterable[LivePart]) -> None:
        for part in parts:
            place = self._places[part.key]
            place += part.interval.start * part.values.itemsize
            self._blocks += write_part(files, descriptor, part, 0, place)


def _boxes(
    tensors: Sequence[Described], written: Mapping[Key, Interval], *, is_first: bool
) -> Iterator[tuple[Described, Box]]:
    for described in tensors:
        shape = described.shape
        if described.key in written:
            for box in boxes_of(shape, written[described.key]):
                yield described, box
        elif is_first and math.prod(shape) == 0:  # nobody has a part of it
            yield described, Box((0,) * len(shape), shape, Interval(0, 0))
