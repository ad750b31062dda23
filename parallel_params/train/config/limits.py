"""The numbers and texts a key can take, and how strictly they are taken.

No key is named here; the tables in `job` and `optim` are made of these.
"""

from typing import Annotated, TypeAlias

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

# Nothing that is counted here reaches this; a slip of the finger does.
_MOST = 10**9

Count: TypeAlias = Annotated[int, Field(ge=1, le=_MOST)]
Whole: TypeAlias = Annotated[int, Field(ge=0, le=_MOST)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0)]
Beta: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
