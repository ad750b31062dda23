"""A job file as text: read it, and say in which line a key stands.

TOML and JSON alike become plain tables. Nothing here knows which keys exist.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from parallel_params.errors import ConfigError
from parallel_params.train.config.shipped import no_such_job

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]  # on Python 3.10 only

KeyPath: TypeAlias = tuple[str | int, ...]
Table: TypeAlias = dict[str, object]

_KEY_PART = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_KEY = rf"({_KEY_PART}(?:\s*\.\s*{_KEY_PART})*)"
_HEADER = re.compile(rf"\s*(\[\[?)\s*{_KEY}\s*\]\]?\s*(#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*{_KEY}\s*=(?!=)")
_JSON_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\]:,\n]|[^\s{}\[\]:,"]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class JobText:
    """A job file that has been read, and where its keys stand."""

    path: Path
    table: Table
    lines: Mapping[KeyPath, int]

    def place(self, key: KeyPath) -> str:
        """Say `file:line` of a key, of its table if the key is not there."""
        line = self.line(key)
        return f"{self.path}:{line}" if line else str(self.path)

    def line(self, key: KeyPath) -> int:
        """Give the line of a key, or of the table around it, or 0."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return self.lines[key[:length]]
        return 0


def read_job_text(path: Path) -> JobText:
    """Read a TOML file, or a JSON file if its name ends so.

    Raises:
        ConfigError: not there, not readable, not UTF-8, or not TOML or JSON.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{path}: {no_such_job(path)}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not a text in UTF-8: {error}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    if path.suffix == ".json":
        return JobText(path=path, table=_json(path, text), lines=dict(_json_keys(text)))
    return JobText(path=path, table=_toml(path, text), lines=_toml_lines(text))


def toml_value(text: str) -> object:
    """Read a TOML literal; what is none stays the text it is."""
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text


def _toml(path: Path, text: str) -> Table:
    try:
        table: Table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), )?(.*)\)", str(error))
        if found is None:
            raise ConfigError([f"{path}: not TOML: {error}"]) from None
        line = found[2] or str(text.count("\n") + 1)
        raise ConfigError(
            [f"{path}:{line}: not TOML: {found[1]} (at {found[3]})"]
        ) from None
    return table


def _json(path: Path, text: str) -> Table:
    try:
        table = json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        problem = (
            f"{path}:{error.lineno}: not JSON: {error.msg} (at column {error.colno})"
        )
        raise ConfigError([problem]) from None
    except _RepeatedKeyError as error:
        problem = f'{path}: the key "{error}" stands twice in one table'
        raise ConfigError([problem]) from None
    if not isinstance(table, dict):
        kind = type(table).__name__
        raise ConfigError([f"{path}:1: a job is a JSON object (got a {kind})"])
    return table


class _RepeatedKeyError(Exception):
    """A JSON object has one key twice."""


def _without_repetition(pairs: list[tuple[str, object]]) -> Table:
    table: Table = {}
    for key, value in pairs:
        if key in table:
            raise _RepeatedKeyError(key)
        table[key] = value
    return table


def _toml_lines(text: str) -> dict[KeyPath, int]:
    """Find the line of each key; keys inside an inline table count as their table."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    num_entries: dict[KeyPath, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _split_key(header[2])
            if header[1] == "[[":
                index = num_entries.get(table, 0)
                num_entries[table] = index + 1
                lines.setdefault(table, number)
                table = (*table, index)
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_split_key(assignment[1])), number)
    return lines


def _split_key(text: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in re.findall(_KEY_PART, text))


def _json_keys(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Walk over the tokens of valid JSON with a stack of keys and list positions."""
    stack: list[str | int] = []
    number, last = 1, ""
    for token in _JSON_TOKEN.findall(text):
        if token == "\n":
            number += 1
            continue
        if token == ":":
            stack[-1] = json.loads(last)
            yield tuple(stack), number
        elif token != "]" and last in ("[", ",") and isinstance(stack[-1], int):
            stack[-1] += 1
            yield tuple(stack), number
        if token in ("{", "["):
            stack.append("" if token == "{" else -1)
        elif token in ("}", "]"):
            stack.pop()
        last = token
