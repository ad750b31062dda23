"""MindSpore's `.ckpt` files as bytes: which tensors are there, and where they lie.

Such a file is one protobuf message, `Checkpoint { repeated Value { tag, TensorProto
{ dims, tensor_type, tensor_content } } }`. We read and write the three messages
ourselves because the protobuf library has to have a whole file in memory, twice, and
ends at 2 GiB; here no more than one tensor is, and every length is checked against the
file before anything of that size is allocated. Nothing is executed, nothing unpickled.

Source: the format as MindSpore 2.10 writes it; protobuf.dev, "Encoding".
"""

import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from parallel_params.checkpoint.protobuf import (
    BYTES,
    VARINT,
    Walker,
    encode_lead,
    encode_number,
)
from parallel_params.errors import CheckpointError
from parallel_params.plan.spec import ITEM_BYTES, MAX_NAME_LENGTH
from parallel_params.tensor.dtype import dtype_named

TEXT = "str"
"""The type of a text among the tensors; it is four bytes per character."""

TYPES = {str(dtype_named(name)): name for name in ITEM_BYTES}
"""MindSpore's name of an element type, and NumPy's."""

MAX_TEXT_BYTES = 1 << 20
_MAX_VALUES = 1 << 20
_MAX_DIMS = 64
_CHECKSUM = b"crc_num"
_CHECKSUM_BYTES = 10
TRAILER_BYTES = len(_CHECKSUM) + _CHECKSUM_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class CkptTensor:
    """One tensor, or text, of a file.

    Attributes:
        name: its tag.
        dtype: NumPy's name, `bfloat16`, or `TEXT`.
        shape: of the tensor.
        pieces: first byte and length of each part of its content, in order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]

    @property
    def num_bytes(self) -> int:
        """Size of its content."""
        return sum(length for _, length in self.pieces)


def encode_head(
    name: str, type_name: str, dims: Sequence[int], num_bytes: int
) -> bytes:
    """Return all of a value but its content, which comes right behind.

    Args:
        name: the tag.
        type_name: MindSpore's.
        dims: of the whole tensor.
        num_bytes: of the content.
    """
    tensor = b"".join(b"\x08" + encode_number(dim) for dim in dims)
    tensor += (
        encode_lead(2, len(type_name)) + type_name.encode() + encode_lead(3, num_bytes)
    )
    tag = name.encode()
    value = (
        encode_lead(1, len(tag))
        + tag
        + encode_lead(2, len(tensor) + num_bytes)
        + tensor
    )
    return encode_lead(1, len(value) + num_bytes) + value


def encode_trailer(checksum: int) -> bytes:
    """Return what MindSpore puts behind the message: its CRC-32."""
    return _CHECKSUM + checksum.to_bytes(_CHECKSUM_BYTES, "big")


def read_index(descriptor: int, num_bytes: int, where: str) -> list[CkptTensor]:
    """Return what is in a file, in its order, without reading the contents.

    Args:
        descriptor: of the file.
        num_bytes: its length.
        where: its name in errors.

    Raises:
        CheckpointError: it is no such file, or has what this package cannot hold.
        CheckpointDamaged: it ends too early, or a tensor is not as large as it says.
    """
    has_checksum = find_checksum(descriptor, num_bytes) is not None
    stop = num_bytes - TRAILER_BYTES if has_checksum else num_bytes
    walker = Walker(descriptor, where)
    groups: list[list[CkptTensor]] = []
    for count, (number, kind, start, size) in enumerate(walker.fields(0, stop)):
        if (number, kind) != (1, BYTES):
            walker.refuse(f"field {number} of kind {kind} at its outside")
        if count >= _MAX_VALUES:
            walker.refuse(f"more than {_MAX_VALUES} values")
        value = _read_value(walker, start, start + size)
        if not groups or groups[-1][0].name != value.name:
            groups.append([])
        groups[-1].append(value)
    if not groups:
        walker.refuse("no value at all")
    values = [_join(walker, group) for group in groups]
    _check(walker, values)
    return [_scalar(value) for value in values]


def find_checksum(descriptor: int, num_bytes: int) -> int | None:
    """Return the CRC-32 that a file ends with, if it ends with one."""
    if num_bytes < TRAILER_BYTES:
        return None
    trailer = os.pread(descriptor, TRAILER_BYTES, num_bytes - TRAILER_BYTES)
    if not trailer.startswith(_CHECKSUM):
        return None
    return int.from_bytes(trailer[len(_CHECKSUM) :], "big")


def compute_checksum(descriptor: int, num_bytes: int) -> int:
    """Return the CRC-32 of the first bytes of a file."""
    checksum, place = 0, 0
    while place < num_bytes:
        chunk = os.pread(descriptor, min(1 << 20, num_bytes - place), place)
        if not chunk:
            break
        checksum, place = zlib.crc32(chunk, checksum), place + len(chunk)
    return checksum


def _read_value(walker: Walker, start: int, stop: int) -> CkptTensor:
    name, tensor = "", None
    for number, kind, place, size in walker.fields(start, stop):
        if (number, kind) == (1, BYTES):
            name = walker.text(place, size, 4 * MAX_NAME_LENGTH)
        elif (number, kind) == (2, BYTES):
            tensor = place, place + size
        elif number == 3:
            raise CheckpointError(
                f"{walker.where}: {name!r} is a MapParameter (a hash table), which no "
                "tensor here can hold; save without it"
            )
    if not name or tensor is None:
        walker.refuse(f"a value without name or tensor at byte {start}")
    return _read_tensor(walker, name, *tensor)


def _read_tensor(walker: Walker, name: str, start: int, stop: int) -> CkptTensor:
    dims: list[int] = []
    type_name, piece = "", None
    for number, kind, place, size in walker.fields(start, stop):
        if (number, kind) == (1, VARINT):
            dims.append(place)
        elif (number, kind) == (1, BYTES):
            while size:
                dim, after = walker.number(place, place + size)
                size, place = size - (after - place), after
                dims.append(dim)
        elif (number, kind) == (2, BYTES):
            type_name = walker.text(place, size, 32)
        elif (number, kind) == (3, BYTES):
            piece = place, size
        if len(dims) > _MAX_DIMS:
            walker.refuse(f"more than {_MAX_DIMS} dims of {name!r}")
    if piece is None or any(dim >= 2**63 for dim in dims):
        walker.refuse(f"no content, or negative dims, for {name!r}")
    dtype = TEXT if type_name == TEXT else TYPES.get(type_name)
    if dtype is None:
        raise CheckpointError(
            f"{walker.where}: {name!r} has the element type {type_name!r}; expected "
            f"one of {', '.join(TYPES)}"
        )
    return CkptTensor(name=name, dtype=dtype, shape=tuple(dims), pieces=(piece,))


def _join(walker: Walker, parts: Sequence[CkptTensor]) -> CkptTensor:
    """Put together the parts that a large tensor was written in."""
    first = parts[0]
    for part in parts:
        if (first.dtype, first.shape) != (part.dtype, part.shape):
            walker.damaged(
                f"parts of {first.name!r} do not fit together: {first.dtype} "
                f"{first.shape}, then {part.dtype} {part.shape}"
            )
    return replace(first, pieces=tuple(part.pieces[0] for part in parts))


def _check(walker: Walker, values: Sequence[CkptTensor]) -> None:
    """Refuse what is there twice, and contents of another size than the shape says."""
    known: set[str] = set()
    for value in values:
        if value.name in known:
            walker.damaged(f"{value.name!r} is there twice")
        known.add(value.name)
        found = value.num_bytes
        if value.dtype == TEXT:
            if found % 4 or found > MAX_TEXT_BYTES:
                walker.damaged(f"{value.name!r} is a text of {found} bytes")
            continue
        item_bytes = ITEM_BYTES[value.dtype]
        if found != math.prod(value.shape) * item_bytes and not (
            value.shape == (0,) and found == item_bytes
        ):
            walker.damaged(
                f"{value.name!r} of shape {value.shape} and type {value.dtype} needs "
                f"{math.prod(value.shape) * item_bytes} bytes and has {found}"
            )


def _scalar(value: CkptTensor) -> CkptTensor:
    """Read dims of `[0]` with one element as old versions meant it: as no dims."""
    if value.dtype == TEXT or value.shape != (0,) or not value.num_bytes:
        return value
    return replace(value, shape=())
