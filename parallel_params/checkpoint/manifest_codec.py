"""Manifest <-> JSON. What is read is untrusted and checked whole before use.

The text carries a hash of itself, so an edited or damaged manifest is noticed as such.
Checked here: types, names, ranges that leave a file or overlap, tensors that are not
covered. Whether the files are there and hold these bytes is checked in `reading.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import NoReturn, get_args

from parallel_params.checkpoint.hashes import hash_of
from parallel_params.checkpoint.manifest import (
    BLOCK_BYTES,
    Block,
    Key,
    Layout,
    Manifest,
    Stored,
    StoredFile,
)
from parallel_params.checkpoint.strict_json import canonical, read_json
from parallel_params.errors import CheckpointDamaged, CheckpointError, PlanError
from parallel_params.plan.interval import Interval
from parallel_params.plan.record import Record
from parallel_params.plan.spec import ITEM_BYTES, MAX_NAME_LENGTH

FAMILY = "parallel_params checkpoint"
VERSION = 1
FORMAT = f"{FAMILY} {VERSION}"
LAYOUTS: tuple[str, ...] = get_args(Layout)

_FIELDS = ("format", *(f.name for f in fields(Manifest) if f.init), "checksum")
_FILE_FIELDS = tuple(field.name for field in fields(StoredFile))
_TENSOR_FIELDS = ("name", "slot", "slice", "num_slices", "dtype", "shape", "blocks")
_MOST = 2**62
_HASH = re.compile(r"[0-9a-f]{32}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.safetensors")


def encode(manifest: Manifest) -> bytes:
    """Return a manifest as JSON text; `decode` is its inverse.

    Raises:
        TypeError, ValueError: the extras hold what JSON has no word for.
    """
    record: dict[str, object] = {
        "format": FORMAT,
        "step": manifest.step,
        "serial": manifest.serial,
        "layout": manifest.layout,
        "files": [
            {name: getattr(file, name) for name in _FILE_FIELDS}
            for file in manifest.files
        ],
        "tensors": [_encode_tensor(stored) for stored in manifest.tensors],
        "training": dict(manifest.training),
        "cursor": manifest.cursor,
        "metric": manifest.metric,
        "extras": dict(manifest.extras),
        "plan": dict(manifest.plan),
        "written_by": manifest.written_by,
    }
    return canonical({**record, "checksum": hash_of(canonical(record))})


def decode(content: bytes, where: str) -> Manifest:
    """Return the manifest of a text that `encode` wrote.

    Args:
        content: the text.
        where: its name in errors.

    Raises:
        CheckpointDamaged: its own hash does not fit.
        CheckpointError: it is of another version, or was never written by us.
    """
    data = read_json(content, where)
    if not isinstance(data, dict):
        raise CheckpointError(f"{where}: expected an object, as pparams writes it")
    _check_format(data.get("format"), where)
    checksum = data.pop("checksum", None)
    if checksum != hash_of(_canonical(data, where)):
        raise CheckpointDamaged(
            f"{where} was changed after it was written: its hash does not fit"
        )
    try:
        manifest = _decode(Record({**data, "checksum": checksum}, where, _FIELDS))
    except PlanError as error:
        raise CheckpointError(str(error)) from error
    _check_places(manifest, where)
    return manifest


def _canonical(data: object, where: str) -> bytes:
    try:
        return canonical(data)
    except (ValueError, RecursionError) as error:  # 1e999, or a lone surrogate
        raise CheckpointError(f"{where}: {error}") from error


def _check_format(found: object, where: str) -> None:
    if found == FORMAT:
        return
    text = found if isinstance(found, str) else ""
    number = text.removeprefix(f"{FAMILY} ")
    if text.startswith(FAMILY) and number.isdecimal() and len(number) < 9:
        age = "a newer" if int(number) > VERSION else "an older"
        raise CheckpointError(
            f"{where} was written in {age} format, version {number}; this version of "
            f"the package reads version {VERSION}. Load it with the version that "
            "wrote it and export it"
        )
    raise CheckpointError(
        f"{where} is no manifest of a checkpoint: expected the format {FORMAT!r}, "
        f"found {str(found)[:80]!r}"
    )


def _encode_tensor(stored: Stored) -> dict[str, object]:
    return {
        "name": stored.key.name,
        "slot": stored.key.slot,
        "slice": stored.key.slice_index,
        "num_slices": stored.num_slices,
        "dtype": stored.dtype,
        "shape": list(stored.shape),
        "aliases": list(stored.aliases),
        "slice_dim": stored.slice_dim,
        "blocks": [
            {
                "file": block.file,
                "offset": block.offset,
                "stop": block.interval.stop,
                "hash": block.hash,
            }
            for block in stored.blocks
        ],
    }


def _decode(record: Record) -> Manifest:
    layout = record.text("layout")
    if layout not in LAYOUTS:
        raise record.error("layout", f"expected one of {LAYOUTS}, got {layout!r}")
    return Manifest(
        step=_whole(record, "step"),
        serial=_whole(record, "serial"),
        layout=layout,
        files=tuple(_decode_file(f) for f in record.records("files", _FILE_FIELDS)),
        tensors=tuple(
            _decode_tensor(each)
            for each in record.records(
                "tensors", (*_TENSOR_FIELDS, "aliases", "slice_dim")
            )
        ),
        training=record.mapping("training"),
        cursor=None
        if record.optional_number("cursor") is None
        else _whole(record, "cursor"),
        metric=record.optional_real("metric"),
        extras=record.mapping("extras"),
        plan=record.mapping("plan"),
        written_by=record.text("written_by"),
    )


def _decode_file(record: Record) -> StoredFile:
    name, header_bytes = record.text("name"), _whole(record, "header_bytes")
    if not _FILE_NAME.fullmatch(name):
        raise record.error(
            "name", f"{name[:80]!r} is no name of a file beside the manifest"
        )
    num_bytes = _whole(record, "num_bytes")
    if header_bytes > num_bytes:
        raise record.error("header_bytes", "the head is longer than the file")
    return StoredFile(
        name=name,
        num_bytes=num_bytes,
        header_bytes=header_bytes,
        header_hash=_hash(record, "header_hash"),
    )


def _decode_tensor(record: Record) -> Stored:
    name, slot = record.text("name"), record.text("slot")
    aliases = record.texts("aliases")
    for text in (name, slot or "weight", *aliases):
        if not text or not text.isprintable() or len(text) > MAX_NAME_LENGTH:
            raise record.error("name", f"expected printable text, got {text[:80]!r}")
    key = Key(name, slot, _whole(record, "slice"))
    num_slices = _whole(record, "num_slices")
    if key.slice_index >= num_slices:
        raise record.error("slice", f"{key.slice_index} of {num_slices} slices")
    dtype, shape = record.text("dtype"), record.numbers("shape")
    if dtype not in ITEM_BYTES:
        raise record.error("dtype", f"unknown element type {dtype[:80]!r}")
    if len(shape) > 64 or not all(0 <= number < _MOST for number in shape):
        raise record.error("shape", f"no shape of a tensor: {str(shape)[:80]}")
    dim = record.optional_number("slice_dim")
    if dim is not None and not 0 <= dim < len(shape):
        raise record.error("slice_dim", f"no dim of {shape}: {str(dim)[:40]}")
    stored = Stored(
        key=key,
        num_slices=num_slices,
        dtype=dtype,
        shape=shape,
        blocks=_decode_blocks(record),
        aliases=aliases,
        slice_dim=dim,
    )
    covered = stored.blocks[-1].interval.stop if stored.blocks else 0
    if covered != stored.numel:
        raise record.error(
            "blocks", f"they hold {covered} elements of {stored.numel} of {key}"
        )
    return stored


def _decode_blocks(record: Record) -> tuple[Block, ...]:
    blocks: list[Block] = []
    item_bytes, start = ITEM_BYTES[record.text("dtype")], 0
    for each in record.records("blocks", ("file", "offset", "stop", "hash")):
        stop = _whole(each, "stop")
        if not 0 < (stop - start) * item_bytes <= BLOCK_BYTES:
            raise each.error(
                "stop", f"a block of elements {start} to {stop} is none, or too large"
            )
        blocks.append(
            Block(
                file=_whole(each, "file"),
                offset=_whole(each, "offset"),
                interval=Interval(start, stop),
                hash=_hash(each, "hash"),
            )
        )
        start = stop
    return tuple(blocks)


def _check_places(manifest: Manifest, where: str) -> None:
    """Refuse names that repeat, and blocks that leave their file or overlap."""

    def refuse(problem: str) -> NoReturn:
        raise CheckpointError(f"{where}: {problem}")

    for what, names in (
        ("file", [file.name for file in manifest.files]),
        ("tensor", [str(stored.key) for stored in manifest.tensors]),
        (
            "alias",
            [a for t in manifest.tensors if not t.key.slice_index for a in t.aliases],
        ),
    ):
        if twice := _repeated(names):
            refuse(f"the {what} {twice} is there twice")
    places: list[list[tuple[int, int, str]]] = [[] for _ in manifest.files]
    for stored in manifest.tensors:
        for block in stored.blocks:
            if block.file >= len(manifest.files):
                refuse(f"{stored.key} lies in file {block.file}, which there is not")
            num_bytes = block.interval.numel * ITEM_BYTES[stored.dtype]
            stop = block.offset + num_bytes
            places[block.file].append((block.offset, stop, str(stored.key)))
    for file, blocks in zip(manifest.files, places, strict=True):
        ends = (file.header_bytes, file.header_bytes, "the head")
        behind = (file.num_bytes, file.num_bytes, "the end of the file")
        for before, after in pairwise([ends, *sorted(blocks), behind]):
            if before[1] > after[0]:
                refuse(
                    f"in {file.name} {before[2]} reaches byte {before[1]} and "
                    f"{after[2]} starts at byte {after[0]}"
                )


def _repeated(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name[:200]
        seen.add(name)
    return None


def _whole(record: Record, key: str) -> int:
    value = record.number(key)
    if not 0 <= value < _MOST:
        raise record.error(key, f"expected a number from 0, got {str(value)[:40]}")
    return value


def _hash(record: Record, key: str) -> str:
    text = record.text(key)
    if not _HASH.fullmatch(text):
        raise record.error(key, f"expected 32 hex digits, got {text[:40]!r}")
    return text
