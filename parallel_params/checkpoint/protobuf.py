"""Protobuf's encoding, as far as a file of tensors needs it: fields and their places.

Nothing is read but the few bytes that say where a field lies, and no length is believed
that the file has no room for.

Source: protobuf.dev, "Encoding".
"""

import os
from collections.abc import Iterator
from typing import NoReturn

from parallel_params.errors import CheckpointDamaged, CheckpointError
from parallel_params.plan.spec import MAX_NAME_LENGTH

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields."""

_CHUNK_BYTES = 1 << 16
_MAX_NUMBER_BYTES = 10


def encode_number(value: int) -> bytes:
    """Return a number from 0, seven bits per byte."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_lead(number: int, num_bytes: int) -> bytes:
    """Return what comes before the bytes of a field."""
    return encode_number(number << 3 | BYTES) + encode_number(num_bytes)


class Walker:
    """Reads the fields of messages in a file.

    Args:
        descriptor: of the file.
        where: its name in errors.
    """

    def __init__(self, descriptor: int, where: str) -> None:
        self._descriptor, self.where = descriptor, where
        self._chunk, self._start = b"", 0

    def refuse(self, problem: str) -> NoReturn:
        """Raise CheckpointError: this is something else."""
        raise CheckpointError(
            f"{self.where} is no .ckpt file of MindSpore, or an encrypted one: it has "
            f"{problem}"
        )

    def damaged(self, problem: str) -> NoReturn:
        """Raise CheckpointDamaged: this is not all of it, or not as it was."""
        raise CheckpointDamaged(f"{self.where}: {problem}")

    def fields(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield number and kind of every field, then its value and 0, or its place."""
        while start < stop:
            key, start = self.number(start, stop)
            number, kind = key >> 3, key & 7
            if kind == VARINT:
                value, start = self.number(start, stop)
                yield number, kind, value, 0
                continue
            if kind == BYTES:
                size, start = self.number(start, stop)
            elif kind in (FIXED64, FIXED32):
                size = 8 if kind == FIXED64 else 4
            else:
                self.refuse(f"a field of the unknown kind {kind} at byte {start}")
            if not number or size > stop - start:
                self.damaged(
                    f"field {number} at byte {start} has {size} bytes, and only "
                    f"{stop - start} are left; the file is cut short or no .ckpt file"
                )
            yield number, kind, start, size
            start += size

    def number(self, start: int, stop: int) -> tuple[int, int]:
        """Return a number of seven bits per byte, and where it ends."""
        value, count, byte = 0, 0, 0x80
        while byte >= 0x80:
            if start + count >= stop:
                self.damaged(f"it ends inside of a number, at byte {stop}")
            if count == _MAX_NUMBER_BYTES:
                self.refuse(f"a number of more than {count} bytes at byte {start}")
            byte = self.peek(start + count, 1)[0]
            value |= (byte & 0x7F) << (7 * count)
            count += 1
        return value & 0xFFFF_FFFF_FFFF_FFFF, start + count

    def peek(self, start: int, size: int) -> bytes:
        """Return a few bytes, not more than a chunk."""
        if not self._start <= start <= self._start + len(self._chunk) - size:
            self._chunk = os.pread(self._descriptor, _CHUNK_BYTES, start)
            self._start = start
        found = self._chunk[start - self._start :][:size]
        if len(found) < size:
            self.damaged("it became shorter while it was read")
        return found

    def text(self, start: int, size: int, most: int) -> str:
        """Return a short text."""
        if size > most:
            self.refuse(f"a name of {size} bytes, more than {most}")
        try:
            text = self.peek(start, size).decode()
        except UnicodeDecodeError:
            self.refuse(f"a name that is no UTF-8 at byte {start}")
        if not text or not text.isprintable() or len(text) > MAX_NAME_LENGTH:
            self.refuse(f"a name that cannot be one, {text[:80]!r}")
        return text
