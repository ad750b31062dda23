"""What a user may choose about a plan, and the words for it.

Holds choices and checks each alone; what they mean together with parameters and a mesh
is decided in `plan.py`.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Literal, get_args

from parallel_params.errors import PlanError
from parallel_params.plan.text import did_you_mean

Reduction = Literal["canonical", "fast"]


class Kind(Enum):
    """The three kinds of storage of a parameter."""

    WEIGHT = "weight"
    GRADIENT = "gradient"
    STATE = "optimizer state"


class Level(IntEnum):
    """How much of a sharded bucket is cut: ZeRO's stages.

    Source: Rajbhandari et al., ZeRO (2020), section 5.
    """

    NOTHING = 0
    STATE = 1
    GRADIENT = 2
    WEIGHT = 3

    def cuts(self, kind: Kind) -> bool:
        """Tell whether a rank holds only its own interval of `kind` at this level."""
        return self >= _FIRST_LEVEL_CUTTING[kind]


_FIRST_LEVEL_CUTTING = {
    Kind.STATE: Level.STATE,
    Kind.GRADIENT: Level.GRADIENT,
    Kind.WEIGHT: Level.WEIGHT,
}


def as_level(value: object) -> Level:
    """Return the level of a number from 0 to 3.

    Raises:
        PlanError: it is no such number.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 3:
        return Level(value)
    raise PlanError(
        "level: expected 0 (nothing cut), 1 (optimizer state), 2 (and gradients) or 3 "
        f"(and weights), got {value!r}"
    )


def check_whole_number(value: object, what: str, *, least: int) -> None:
    """Refuse anything but an `int` of at least `least`.

    Raises:
        PlanError: naming `what`, the value found and the least one that works.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise PlanError(f"{what}: expected a whole number >= {least}, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A user's choices; the defaults suit a model of a few million elements.

    Attributes:
        level: What is cut; an int from 0 to 3 is taken too.
        bucket_bytes: Weight bytes at which a bucket is full.
        shard_threshold_bytes: A parameter of fewer weight bytes is kept whole.
        grains: Equal slices of the global batch; None takes the world size. The same
            number keeps the same bits at every world size that is a power of two.
        reduction: `canonical` sums over the grains in one fixed tree; `fast` leaves
            the order to MPI and repeats its bits at one world size only.
        alignment: Cuts of a bucket are multiples of this many elements.

    Raises:
        PlanError: a value out of its range.

    Examples:
        >>> Policy(level=2).level
        <Level.GRADIENT: 2>
    """

    level: Level = Level.STATE
    bucket_bytes: int = 4 << 20
    shard_threshold_bytes: int = 64 << 10
    grains: int | None = None
    reduction: Reduction = "canonical"
    alignment: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", as_level(self.level))
        check_whole_number(self.bucket_bytes, "policy.bucket_bytes", least=1)
        check_whole_number(
            self.shard_threshold_bytes, "policy.shard_threshold_bytes", least=0
        )
        check_whole_number(self.alignment, "policy.alignment", least=1)
        if self.grains is not None:
            check_whole_number(self.grains, "policy.grains", least=1)
        if self.reduction not in get_args(Reduction):
            raise PlanError(
                f"policy.reduction: unknown {self.reduction!r}. "
                + did_you_mean(str(self.reduction), get_args(Reduction))
            )
