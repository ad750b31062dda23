"""Words and tables for people: bytes, counts, lists of names, aligned columns.

Knows nothing of plans; every floor of the plan that speaks to a person uses it.
"""

import difflib
from collections.abc import Iterable, Sequence


def format_bytes(num_bytes: int) -> str:
    """Return a size a person can read.

    Examples:
        >>> format_bytes(100), format_bytes(8320), format_bytes(5 << 30)
        ('100 B', '8.1 KiB', '5.0 GiB')
    """
    if num_bytes < 1024:
        return f"{num_bytes} B"
    size = float(num_bytes)
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    index = min((num_bytes.bit_length() - 1) // 10, len(units) - 1)
    return f"{size / 1024**index:.1f} {units[index]}"


def format_seconds(seconds: float) -> str:
    """Return a duration a person can read.

    Examples:
        >>> format_seconds(0), format_seconds(4.2e-5), format_seconds(0.35)
        ('0 us', '42 us', '350 ms')
    """
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def format_count(number: int) -> str:
    """Return a count with its thousands apart: `format_count(12000) == "12 000"`."""
    return f"{number:,}".replace(",", " ")


def plural(number: int, noun: str) -> str:
    """Return `"1 rank"`, `"4 ranks"`."""
    return f"{format_count(number)} {noun}{'' if number == 1 else 's'}"


def name_some(names: Sequence[str], *, most: int = 4) -> str:
    """Return the names in a row; beyond `most` only their number."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def name_all(names: Sequence[str]) -> str:
    """Return the names as a sentence has them: `"a, b and c"`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a sentence with the nearest choices, or with some choices if none is."""
    known = sorted(choices)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"Known: {name_some([repr(choice) for choice in known], most=12)}."


def format_table(rows: Sequence[Sequence[str]], *, align: str) -> list[str]:
    """Return the rows as lines of aligned columns, each indented by two spaces.

    Args:
        rows: The first one is the heading.
        align: One of `<` and `>` per column.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            f"{cell:{side}{width}}"
            for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
