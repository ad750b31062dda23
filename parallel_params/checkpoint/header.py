"""The head of a safetensors file: where each tensor lies. Written and read as bytes.

We write it ourselves because the ranks fill in the data one by one, which no library
does; what is written is an ordinary file that every safetensors library opens.

Source: the format's description at github.com/huggingface/safetensors; the padding to
whole pages is ours and allowed by it.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parallel_params.checkpoint.strict_json import in_order, read_json
from parallel_params.errors import CheckpointError
from parallel_params.plan.spec import ITEM_BYTES

# The limit that the reference implementation has as well.
MAX_HEADER_BYTES = 100_000_000
ALIGNMENT = 4096
METADATA = "__metadata__"

CODES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "bfloat16": "BF16",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
"""By NumPy's name of an element type, the format's."""

_NAMES = {code: name for name, code in CODES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a file.

    Attributes:
        key: its name there.
        dtype: NumPy's name, or `bfloat16`.
        shape: of the tensor.
        start: its first byte, counted from the end of the head.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def num_bytes(self) -> int:
        """Size of its data."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def encode_header(entries: Sequence[Entry], metadata: Mapping[str, str]) -> bytes:
    """Return the head of a file whose data follow each other without gaps."""
    fields: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    for entry in entries:
        fields[entry.key] = {
            "dtype": CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [entry.start, entry.start + entry.num_bytes],
        }
    # MindSpore's reader wants the tensors here in the order of their data.
    text = in_order(fields)
    num_bytes = -(-(len(text) + 8) // ALIGNMENT) * ALIGNMENT - 8
    if num_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"{len(entries)} tensors are too many for one file")
    return struct.pack("<Q", num_bytes) + text.ljust(num_bytes)


def header_size(first: bytes, file_bytes: int, where: str) -> int:
    """Return how many bytes the head takes, from the first 8 bytes of a file.

    Raises:
        CheckpointError: this is no safetensors file.
    """
    num_bytes = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    if not 2 <= num_bytes <= min(MAX_HEADER_BYTES, file_bytes - 8):
        raise CheckpointError(
            f"{where} is no safetensors file: it announces a head of {num_bytes} bytes "
            f"and has {file_bytes} in all"
        )
    return int(num_bytes) + 8


def decode_header(
    content: bytes, file_bytes: int, where: str
) -> tuple[list[Entry], dict[str, str]]:
    """Return the tensors of a file, in the order of their data, and its metadata.

    Args:
        content: the whole head, with its first 8 bytes.
        file_bytes: length of the file.
        where: its name in errors.

    Raises:
        CheckpointError: it is no head, or its data are not what the file has room for.
    """
    fields = read_json(content[8:], where)
    if not isinstance(fields, dict):
        raise CheckpointError(f"{where}: the head of a safetensors file is an object")
    metadata = fields.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise CheckpointError(f"{where}: {METADATA} must hold texts alone")
    found = [_entry(key, value, where) for key, value in fields.items()]
    found.sort(key=lambda pair: (pair[0].start, pair[1]))
    place = 0
    for entry, stop in found:
        if entry.start != place or stop - entry.start != entry.num_bytes:
            raise CheckpointError(
                f"{where}: tensor {entry.key!r} of shape {entry.shape} and type "
                f"{entry.dtype} says that it has bytes {entry.start} to {stop}; "
                f"expected {place} to {place + entry.num_bytes}"
            )
        place = stop
    if len(content) + place != file_bytes:
        raise CheckpointError(
            f"{where} has {file_bytes} bytes, its head speaks of {len(content) + place}"
        )
    return [entry for entry, _ in found], metadata


def _entry(key: str, value: object, where: str) -> tuple[Entry, int]:
    problem = f"{where}: tensor {key[:200]!r} is not described as safetensors does"
    if not isinstance(value, dict) or value.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise CheckpointError(problem)
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    numbers = [shape, offsets]
    is_right = all(
        isinstance(each, list)
        and all(type(number) is int and 0 <= number < 2**63 for number in each)
        for each in numbers
    )
    if not is_right or len(offsets) != 2 or len(shape) > 64:
        raise CheckpointError(problem)
    if not isinstance(code, str) or code not in _NAMES:
        raise CheckpointError(
            f"{where}: tensor {key[:200]!r} has the element type {code!r}, which is "
            f"not one of {', '.join(_NAMES)}"
        )
    entry = Entry(key=key, dtype=_NAMES[code], shape=tuple(shape), start=offsets[0])
    return entry, offsets[1]
