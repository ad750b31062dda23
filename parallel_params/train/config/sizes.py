"""Sizes in bytes as people write them: `4096`, "64 KiB", "1 MiB".

Binary units only: "MB" is refused, because half of its readers think of 10**6.
"""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def parse_bytes(text: str) -> int:
    """Turn "1 MiB" into 1048576.

    Raises:
        ValueError: when `text` is no number with one of the binary units, or no whole
            number of bytes.
    """
    found = _PATTERN.fullmatch(text.strip())
    if found is None or found[2] not in UNITS:
        raise ValueError(
            f'expected bytes, as in 65536 or "64 KiB" ({", ".join(UNITS)})'
        )
    num_bytes = float(found[1]) * UNITS[found[2]]
    if not num_bytes.is_integer():
        raise ValueError("expected a whole number of bytes")
    return int(num_bytes)


def format_bytes(num_bytes: int) -> str:
    """Write bytes with the largest unit that leaves at most one decimal place.

    The value may be rounded: this is for people, `dump_job` writes plain integers.
    """
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if num_bytes >= UNITS[unit]:
            return f"{num_bytes / UNITS[unit]:.1f} {unit}".replace(".0 ", " ")
    return f"{num_bytes} B"


def _bytes_from(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _limit_from(value: object) -> int | str:
    if value == "unlimited":
        return "unlimited"
    try:
        num_bytes = _bytes_from(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "unlimited"') from error
    if isinstance(num_bytes, int) and not isinstance(num_bytes, bool) and num_bytes > 0:
        return num_bytes
    raise ValueError('expected bytes above 0, as in "1 GiB", or "unlimited"')


_BYTES = [
    {"type": "integer", "minimum": 0},
    {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|TiB)$"},
]
_SCHEMA = WithJsonSchema({"anyOf": _BYTES})
_LIMIT = WithJsonSchema({"anyOf": [*_BYTES, {"const": "unlimited"}]})

NumBytes = Annotated[int, Field(ge=0), BeforeValidator(_bytes_from), _SCHEMA]
PositiveNumBytes = Annotated[int, Field(ge=1), BeforeValidator(_bytes_from), _SCHEMA]
# A union would be two errors for one mistake.
MemoryLimit = Annotated[int | Literal["unlimited"], PlainValidator(_limit_from), _LIMIT]
