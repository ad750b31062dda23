"""`key=value` words from a command line, laid over the tables of a job file.

The values are TOML literals, else plain texts. Whether the keys exist is asked later.
"""

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from parallel_params.train.config.text import JobText, KeyPath, Table, toml_value
from parallel_params.train.config.words import quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One `key=value` as it was given, and the key it sets."""

    given: str
    key: KeyPath


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSource:
    """A job file with its overrides applied: what is to be validated."""

    text: JobText
    table: Table
    overrides: tuple[Override, ...]

    def place(self, key: KeyPath) -> str:
        """Say which override, or which file and line, a key comes from."""
        for override in reversed(self.overrides):
            is_made_by_it = override.key[: len(key)] == key and not self.text.line(key)
            if key[: len(override.key)] == override.key or is_made_by_it:
                return f"override {quoted(override.given)}"
        return self.text.place(key)

    def order(self, key: KeyPath) -> int:
        """Give the line a key stands in; overrides come after all lines."""
        if self.place(key).startswith("override "):
            return sys.maxsize
        return self.text.line(key)


def apply_overrides(text: JobText, given: Sequence[str]) -> tuple[JobSource, list[str]]:
    """Lay `key=value` words over a job file.

    Returns:
        What is to be validated, and one sentence for each word that is no override.
    """
    table = copy.deepcopy(text.table)
    applied: list[Override] = []
    problems: list[str] = []
    for word in given:
        name, equals, value = word.partition("=")
        parts = [part.strip() for part in name.split(".")]
        problem: str | None
        if not equals or not all(parts):
            problem = "expected key=value, as in optim.lr=0.001"
        else:
            problem = _put(table, parts, toml_value(value.strip()))
        if problem:
            problems.append(f"override {quoted(word)}: {problem}")
        else:
            key = tuple(int(p) if p.isdecimal() else p for p in parts)
            applied.append(Override(given=word, key=key))
    source = JobSource(text=text, table=table, overrides=tuple(applied))
    return source, problems


def _put(table: Table, parts: Sequence[str], value: object) -> str | None:
    """Set a value; say what is wrong if the way to it does not lead through tables."""
    inner: object = table
    for depth, part in enumerate(parts):
        if problem := _cannot_enter(inner, part, ".".join(parts[:depth])):
            return problem
        is_last = depth == len(parts) - 1
        if isinstance(inner, list):
            inner[int(part)] = value if is_last else inner[int(part)]
            inner = inner[int(part)]
        elif isinstance(inner, dict):
            inner[part] = value if is_last else inner.get(part, {})
            inner = inner[part]
    return None


def _cannot_enter(inner: object, part: str, name: str) -> str | None:
    if isinstance(inner, dict):
        return None
    if not isinstance(inner, list):
        return f"{name} is no table, so it has no key {quoted(part)}"
    if part.isdecimal() and int(part) < len(inner):
        return None
    return f"{name} has {len(inner)} entries, counted from 0; no {quoted(part)}"
