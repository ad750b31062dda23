"""Every key of a job with its type, default and meaning, read from the schema.

The schema itself is pydantic's; nothing about a key is written down a second time.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import TypeAdapter

from parallel_params.train.config.job import Job

Schema: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a job file.

    Attributes:
        name: dotted, as in an override; `[]` stands for the entries of a list.
        type: what may stand there, in words.
        default: as a job file would have it; None when the key must be given.
        meaning: one line.
        when: the choices this key belongs to, as in `name = "sgd"`; empty for all.
    """

    name: str
    type: str
    default: str | None
    meaning: str
    when: tuple[str, ...]


def schema() -> Schema:
    """Give the JSON schema of a job file, for editors and for `configs/schema.json`."""
    made = TypeAdapter(Job).json_schema()
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
    _drop_titles(made)
    return made


def schema_text() -> str:
    """Write the schema the way `configs/schema.json` has it."""
    return json.dumps(schema(), indent=2) + "\n"


def keys() -> tuple[Key, ...]:
    """List every key of a job file, in the order of the tables."""
    made = schema()
    merged: dict[tuple[str, str, str | None, str], list[str]] = {}
    for key in _keys(made, made, prefix="", when=""):
        same = merged.setdefault((key.name, key.type, key.default, key.meaning), [])
        same.extend(choice for choice in key.when if choice not in same)
    choices: dict[str, set[str]] = {}
    for (name, *_), when in merged.items():
        choices.setdefault(name.rpartition(".")[0], set()).update(when)
    return tuple(
        Key(
            name=name,
            type=kind,
            default=default,
            meaning=meaning,
            # What all choices have in common belongs to none of them.
            when=() if choices[name.rpartition(".")[0]] == {*when} else tuple(when),
        )
        for (name, kind, default, meaning), when in merged.items()
    )


def description_of(table: type | None, key: str) -> str:
    """Give the meaning of one key of one table."""
    made = schema()
    definitions = _table(made["$defs"])
    name = "" if table is None else table.__name__
    inside = _table(definitions.get(name, made))
    return _meaning(made, _table(_table(inside["properties"])[key]))


def _keys(root: Schema, table: Schema, *, prefix: str, when: str) -> Iterator[Key]:
    required = table.get("required", [])
    for name, raw in _table(table["properties"]).items():
        field = _table(raw)
        inner = list(_inner_tables(root, field))
        is_list = "items" in field
        yield Key(
            name=prefix + name,
            type="table" if inner and not is_list else _type(root, field),
            default=None if name in _items(required) else _default(field),
            meaning=_meaning(root, field),
            when=(when,) if when else (),
        )
        inside = f"{prefix}{name}[]." if is_list else f"{prefix}{name}."
        for choice, definition in inner:
            yield from _keys(root, definition, prefix=inside, when=choice)


def _default(field: Schema) -> str:
    """Write a default; that of a table is what its keys say."""
    default = field.get("default", {})
    if default is None:
        return "none"
    return "" if isinstance(default, dict) else json.dumps(default)


def _meaning(root: Schema, field: Schema) -> str:
    # pydantic leaves a field's description out when its table has the same.
    table = _resolve(root, field) if "$ref" in field else {}
    return str(field.get("description", table.get("description", "")))


def _inner_tables(root: Schema, field: Schema) -> Iterator[tuple[str, Schema]]:
    """Find the tables that may stand at a key, each with the choice of it."""
    if "$ref" in field:
        yield "", _resolve(root, field)
    elif "items" in field:
        yield from _inner_tables(root, _table(field["items"]))
    elif "anyOf" in field:
        for option in _items(field["anyOf"]):
            yield from _inner_tables(root, _table(option))
    elif "discriminator" in field:
        discriminator = _table(field["discriminator"])
        for tag, reference in _table(discriminator["mapping"]).items():
            choice = f'{discriminator["propertyName"]} = "{tag}"'
            yield choice, _resolve(root, {"$ref": reference})


def _type(root: Schema, field: Schema) -> str:
    """Say in words what may stand at a key."""
    if "$ref" in field:
        return "table"
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in _items(field["enum"]))
    if "anyOf" in field:
        kinds = [_type(root, _table(option)) for option in _items(field["anyOf"])]
        return " | ".join(kind for kind in kinds if kind != "null")
    if field.get("type") == "object":
        return "table"
    if field.get("type") == "array":
        return f"list of {_type(root, _table(field['items']))}"
    bounds = [
        f"{sign} {field[name]}" for name, sign in _BOUNDS.items() if name in field
    ]
    kind = {"string": "text", "boolean": "true | false"}.get(str(field["type"]))
    if "pattern" in field:
        examples = {"KiB": "64 KiB", "from_rank": "from_rank:0"}
        found = [v for k, v in examples.items() if k in str(field["pattern"])]
        like = found[0] if found else "module:function"
        kind = f'text like "{like}"'
    return " ".join([kind or str(field["type"]), ", ".join(bounds)]).strip()


_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
}


def _resolve(root: Schema, field: Schema) -> Schema:
    name = str(field["$ref"]).rpartition("/")[2]
    return _table(_table(root["$defs"])[name])


def _table(value: object) -> Schema:
    assert isinstance(value, dict)
    return value


def _items(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _drop_titles(node: object) -> None:
    """Take out the titles pydantic invents from field names: they repeat the key."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _drop_titles(value)
    elif isinstance(node, list):
        for value in node:
            _drop_titles(value)
