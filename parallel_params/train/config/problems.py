"""What pydantic found, said in sentences about the job file.

Each sentence is `file:line: key: what is wrong; did you mean "x"? (got ...)`. Near
names come from the table the key stands in; if it has none, the same name in another
table is told.
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping

from pydantic_core import ErrorDetails

from parallel_params.train.config.reference import description_of, keys
from parallel_params.train.config.spots import (
    Spot,
    keys_of,
    spot_of,
    tag_key_of,
    tags_of,
    type_at,
)
from parallel_params.train.config.text import KeyPath
from parallel_params.train.config.words import did_you_mean, one_of, quoted


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: the key, and the sentence without its place."""

    key: KeyPath
    what: str

    def at(self, place: str) -> str:
        """Write the whole sentence."""
        name = ".".join(str(part) for part in self.key)
        return f"{place}: {name}: {self.what}" if name else f"{place}: {self.what}"


def problem_from(details: ErrorDetails) -> Problem:
    """Say one pydantic error in our words."""
    spot = spot_of(details["loc"])
    context: Mapping[str, object] = details.get("ctx") or {}
    got = f" (got {quoted(details['input'])})"
    kind = details["type"]
    if kind == "missing":
        return Problem(key=spot.key, what=f"missing; {_meaning(spot)}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_tag(spot, details)
    if kind == "unexpected_keyword_argument":
        what = _unknown_key(spot)
    elif kind == "literal_error":
        expected = str(context["expected"]).replace("'", '"')
        words = str(context["expected"]).split("'")[1::2]
        hint = did_you_mean(str(details["input"]), words) if len(words) > 1 else ""
        what = f"expected {expected}{hint}"
    elif kind == "value_error":
        what = str(context["error"])
    else:
        sentence = _SENTENCES.get(kind)
        what = sentence(context) if sentence else details["msg"]
    return Problem(key=spot.key, what=what + got)


def _expected(what: str) -> Callable[[Mapping[str, object]], str]:
    return lambda _: f"expected {what}"


_SENTENCES: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    "int_type": _expected("a whole number"),
    "float_type": _expected("a number"),
    "bool_type": _expected("true or false"),
    "string_type": _expected('a text in "quotes"'),
    "tuple_type": _expected("a list in [brackets]"),
    "dataclass_type": _expected("a table"),
    "dict_type": _expected("a table"),
    "finite_number": _expected("a finite number"),
    "string_pattern_mismatch": _expected('"module:function"'),
    "string_too_short": _expected("a text that is not empty"),
    "greater_than": lambda c: f"expected more than {_number(c['gt'])}",
    "greater_than_equal": lambda c: f"expected {_number(c['ge'])} or more",
    "less_than": lambda c: f"expected less than {_number(c['lt'])}",
    "less_than_equal": lambda c: f"expected {_number(c['le'])} or less",
}


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unknown_key(spot: Spot) -> str:
    name = str(spot.key[-1])
    where = f' when {tag_key_of(spot.table)} = "{spot.tag}"' if spot.tag else ""
    hint = did_you_mean(name, keys_of(spot.table)) or _elsewhere(spot.key)
    return f"unknown key{where}{hint}"


def _elsewhere(path: KeyPath) -> str:
    """Say where a key of this last name is, if it is in other tables."""
    dotted, name = ".".join(map(str, path)), str(path[-1])
    places = dict.fromkeys(
        key.name for key in keys() if key.name.rpartition(".")[2] == name
    )
    if dotted in places:
        return (
            ""  # the name is right, and so is the table: another choice made it wrong
        )
    others = [place for place in places if "[]" not in place]
    return f"; did you mean {one_of(others)}?" if 0 < len(others) <= 3 else ""


def _wrong_tag(spot: Spot, details: ErrorDetails) -> Problem:
    """Name the union's own key: pydantic reports the table around it."""
    context = details["ctx"]
    tag_key = str(context["discriminator"]).strip("'")
    key = (*spot.key, tag_key)
    choices = tags_of(type_at(details["loc"]))
    if details["type"] == "union_tag_not_found":
        return Problem(key=key, what=f"missing; expected {one_of(choices)}")
    table = typing.cast("Mapping[str, object]", details["input"])
    hint = did_you_mean(str(table[tag_key]), choices)
    what = f"expected {one_of(choices)}{hint} (got {quoted(table[tag_key])})"
    return Problem(key=key, what=what)


def _meaning(spot: Spot) -> str:
    """Give the docstring of a key that is missing, to go on a sentence with."""
    text = description_of(spot.table, str(spot.key[-1]))
    return text[:1].lower() + text[1:]
