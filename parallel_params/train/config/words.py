"""Words for messages: near names, values as a user wrote them."""

import difflib
import json
from collections.abc import Iterable


def near(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that looks most like `word`, or None."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Say `; did you mean "x"?`, or nothing when no known word is near."""
    guess = near(word, known)
    return f'; did you mean "{guess}"?' if guess else ""


def quoted(value: object, *, limit: int = 60) -> str:
    """Write a value about as a job file has it, cut to `limit` characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def one_of(words: Iterable[str]) -> str:
    """Write `"a", "b" or "c"`."""
    *first, last = [f'"{word}"' for word in words]
    return f"{', '.join(first)} or {last}" if first else last
