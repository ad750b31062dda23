"""The numbers and texts a key can take, and how strictly they are taken.

No key is named here; the tables in `job` and `optim` are made of these.
"""

import math
import re
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

# Nothing that is counted here reaches this; a slip of the finger does.
_MOST = 10**9

Count: TypeAlias = Annotated[int, Field(ge=1, le=_MOST)]
Whole: TypeAlias = Annotated[int, Field(ge=0, le=_MOST)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0)]
NumIterations: TypeAlias = Annotated[int, Field(ge=1, le=99)]
NotPositive: TypeAlias = Annotated[float, Field(le=0)]
AboveOne: TypeAlias = Annotated[float, Field(gt=1)]
MaybeBeta: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Beta: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Function: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


_SLICE_POLICY = r"^(fail|mean|by_key|from_rank(:[0-9]{1,9})?)$"


def _slice_policy(value: object) -> str:
    if not isinstance(value, str) or not re.match(_SLICE_POLICY, value):
        raise ValueError('expected "fail", "mean", "by_key" or "from_rank:K"')
    return value


SlicePolicy: TypeAlias = Annotated[
    str,
    PlainValidator(_slice_policy),
    WithJsonSchema({"type": "string", "pattern": _SLICE_POLICY}),
]


def _positive_or_dynamic(value: object) -> float | str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 < value < math.inf:  # type: ignore[operator]  # a number now
        return float(value)  # type: ignore[arg-type]  # as above
    if value == "dynamic":
        return "dynamic"
    raise ValueError('expected a number above 0, or "dynamic"')


# A union would be two errors for one mistake.
PositiveOrDynamic: TypeAlias = Annotated[
    float | Literal["dynamic"],
    PlainValidator(_positive_or_dynamic),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "dynamic"}]}
    ),
]


def _axes(value: object) -> dict[str, int]:
    is_table = isinstance(value, dict) and value
    names = value if is_table and isinstance(value, dict) else {}
    if (
        not all(
            isinstance(name, str)
            and name.isidentifier()
            and type(size) is int
            and 0 <= size <= _MOST
            for name, size in names.items()
        )
        or list(names.values()).count(0) > 1
        or not names
    ):
        raise ValueError(
            "expected a table of axes and their ranks, at most one of them 0 for what "
            "is left of the world, as in { data = 0, model = 2 }"
        )
    return dict(names)


Axes: TypeAlias = Annotated[
    dict[str, int],
    PlainValidator(_axes),
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "integer", "minimum": 0},
        }
    ),
]


def _options(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("expected a table")
    return value


# Whatever a user's own function takes; it alone knows.
Options: TypeAlias = Annotated[
    dict[str, object],
    PlainValidator(_options),
    WithJsonSchema({"type": "object"}),
]
