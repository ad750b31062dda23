"""Where in the tables of a job an error is, following pydantic's path to it.

pydantic's path names the chosen member of a union where no key stands; here it is taken
out again, and the table around the key found, so that near names come from that table.
"""

import dataclasses
import types
import typing
from collections.abc import Sequence

from parallel_params.train.config.job import Job
from parallel_params.train.config.text import KeyPath

_DISCRIMINATORS = ("name", "kind")


@dataclasses.dataclass(frozen=True, slots=True)
class Spot:
    """The key as the user wrote it, the table class around it, its tag in a union."""

    key: KeyPath
    table: type | None
    tag: str | None


def keys_of(table: type | None) -> Sequence[str]:
    """List the keys of a table."""
    if table is None:
        return ()
    assert dataclasses.is_dataclass(table), "the tables of a job are dataclasses"
    return [field.name for field in dataclasses.fields(table)]


def tag_key_of(table: type | None) -> str:
    """Give the key that tells the members of a union apart."""
    return next(key for key in _DISCRIMINATORS if key in keys_of(table))


def type_at(loc: Sequence[int | str]) -> object:
    """Give the type that pydantic expects at a path."""
    inner: object = Job
    for step in loc:
        inner = _inside(inner, step)
    return inner


def spot_of(loc: Sequence[int | str]) -> Spot:
    """Follow pydantic's path; at a union it holds the tag, which is no key."""
    key: list[str | int] = []
    inner: object = Job
    table: type | None = None
    tag: str | None = None
    for step in loc:
        if tags_of(inner):
            inner, tag = _inside(inner, step), str(step)
            continue
        key.append(step)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            table, tag = inner, tag if _is_tagged(inner, tag) else None
        inner = _inside(inner, step)
    return Spot(tuple(key), table, tag)


def _is_tagged(table: type, tag: str | None) -> bool:
    return tag is not None and tag in tags_of_table(table)


def _inside(outer: object, step: int | str) -> object:
    """Find the type of what lies one step inside of a type; None when nothing does."""
    if typing.get_origin(outer) is tuple:
        return _bare(typing.get_args(outer)[0])
    if members := _members(outer):
        return next((m for m in members if str(step) in tags_of_table(m)), None)
    if isinstance(outer, type) and dataclasses.is_dataclass(outer):
        hints = typing.get_type_hints(outer, include_extras=True)
        return _bare(hints.get(str(step)))
    return None


def _bare(hint: object) -> object:
    """Take the wrapping `Annotated` and `| None` off a type."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        some = [m for m in typing.get_args(hint) if m is not type(None)]
        if len(some) == 1:
            return _bare(some[0])
    return hint


def _members(hint: object) -> Sequence[type]:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return ()
    return [
        member
        for member in typing.get_args(hint)
        if isinstance(member, type) and dataclasses.is_dataclass(member)
    ]


def tags_of(hint: object) -> list[str]:
    """List what may stand at the tag of a union; nothing for other types."""
    return [tag for member in _members(hint) for tag in tags_of_table(member)]


def tags_of_table(table: type) -> Sequence[str]:
    """List what may stand at the tag of one member of a union."""
    hints = typing.get_type_hints(table)
    for key in _DISCRIMINATORS:
        if typing.get_origin(hints.get(key)) is typing.Literal:
            return typing.get_args(hints[key])
    return ()
