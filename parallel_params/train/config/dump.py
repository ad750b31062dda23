"""A `Job` written as TOML, every default included, so that it can be read again."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence

from parallel_params.train.config.job import Job

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dump_job(job: Job) -> str:
    """Write a job as TOML; `load_job` of that text gives an equal job.

    Keys that are None have no value in TOML and are left out.
    """
    table = _without_none(dataclasses.asdict(job))
    return "\n".join(_lines(table)).strip() + "\n"


def _lines(table: Mapping[str, object]) -> Iterator[str]:
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    for key, value in table.items():
        if key not in tables:
            yield f"{key} = {_literal(value)}"
    for key, inner in tables.items():
        yield f"\n[{key}]"
        yield from (f"{name} = {_literal(value)}" for name, value in inner.items())


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # TOML's basic strings are JSON's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, Mapping):
        inside = ", ".join(
            f"{_key(key)} = {_literal(inner)}" for key, inner in value.items()
        )
        return f"{{ {inside} }}"
    if isinstance(value, Sequence):
        return f"[{', '.join(_literal(inner) for inner in value)}]"
    return repr(value)


def _key(key: str) -> str:
    """Write a key; one that is a user's own may need quotes."""
    return key if _BARE.fullmatch(key) else _literal(key)


def _without_none(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return {key: _plain(inner) for key, inner in value.items() if inner is not None}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return _without_none(value)
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value
