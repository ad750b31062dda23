"""What a user may choose about a plan, and the words for it.

Holds choices and checks each alone; what they mean together with parameters and a mesh
is decided in `plan.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from fnmatch import fnmatchcase
from typing import Literal, get_args

from parallel_params.errors import PlanError
from parallel_params.plan.guards import Clip, LossScale
from parallel_params.plan.number_checks import check_whole_number
from parallel_params.plan.text import did_you_mean

Reduction = Literal["canonical", "fast"]
Transport = Literal["auto", "window", "messages"]
NonFinite = Literal["ignore", "raise", "skip", "zero"]
WireDtype = Literal["bfloat16", "float16"]
MemoryLimit = int | Literal["unlimited"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "reduction": get_args(Reduction),
    "transport": get_args(Transport),
    "non_finite": get_args(NonFinite),
    "wire_dtype": get_args(WireDtype),
}


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


def as_level(value: object, what: str = "level") -> Level:
    """Return the level of a number from 0 to 3; errors say it is `what`.

    Raises:
        PlanError: it is no such number.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 3:
        return Level(value)
    raise PlanError(
        f"{what}: expected 0 (nothing cut), 1 (optimizer state), 2 (and gradients) or "
        f"3 (and weights), got {value!r}"
    )


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
        override: Another level for parameters whose name or alias matches a pattern
            such as `encoder.*.weight`, as in `fnmatch`; the last match counts. A
            mapping or pairs of pattern and level.
        transport: Whether the ranks of a node share memory (`window`) or only exchange
            messages; `auto` plans windows, and a run without room for them falls back.
        clip: Bounds on gradients.
        non_finite: What to do about a gradient that is infinite or no number: `ignore`
            it, `raise` on all ranks, `skip` the step, or take such elements as `zero`.
        loss_scale: Factor on the loss; a number stays as it is.
        wire_dtype: Gradients of more bytes travel between nodes as this; they are
            summed in their own dtype. None sends them as they are.
        master_weights: Whether 16-bit parameters keep a float32 weight that is moved.
        memory_limit_bytes: What one rank may hold; a plan of more is refused. None: a
            manager asks the machines what they have free; "unlimited": nobody is asked.

    Raises:
        PlanError: a value out of its range, or two that contradict each other.

    Examples:
        >>> Policy(level=2).level
        <Level.GRADIENT: 2>
    """

    level: Level = Level.STATE
    bucket_bytes: int = 4 << 20
    shard_threshold_bytes: int = 64 << 10
    grains: int | None = None
    reduction: Reduction = "canonical"
    alignment: int = 1024  # a page of float32
    override: Mapping[str, int] | Sequence[tuple[str, int]] = ()
    transport: Transport = "auto"
    clip: Clip | None = None
    non_finite: NonFinite = "raise"
    loss_scale: LossScale | float | None = None
    wire_dtype: WireDtype | None = None
    master_weights: bool = True
    memory_limit_bytes: MemoryLimit | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", as_level(self.level))
        check_whole_number(self.bucket_bytes, "policy.bucket_bytes", least=1)
        check_whole_number(
            self.shard_threshold_bytes, "policy.shard_threshold_bytes", least=0
        )
        check_whole_number(self.alignment, "policy.alignment", least=1)
        if self.grains is not None:
            check_whole_number(self.grains, "policy.grains", least=1)
        _check_memory_limit(self.memory_limit_bytes)
        for field, choices in _CHOICES.items():
            _check_choice(getattr(self, field), f"policy.{field}", choices)
        object.__setattr__(self, "override", _as_overrides(self.override))
        self._check_guards()

    @property
    def scaling(self) -> LossScale | None:
        """The loss scale, whichever way it was given."""
        assert not isinstance(self.loss_scale, int | float)  # since it was made
        return self.loss_scale

    @property
    def is_watching(self) -> bool:
        """Whether gradients that are not finite are looked for."""
        scale = self.scaling
        is_dynamic = scale is not None and scale.is_dynamic
        return self.non_finite != "ignore" or is_dynamic

    @property
    def has_verdict(self) -> bool:
        """Whether the ranks decide together what becomes of a step's gradients."""
        return self.clip is not None or self.is_watching

    @property
    def overrides(self) -> tuple[tuple[str, Level], ...]:
        """The pairs of pattern and level, whichever way they were given."""
        return tuple(self.override)  # type: ignore[arg-type]  # since it was made

    def override_of(self, names: Iterable[str]) -> Level | None:
        """Return the level that the last matching pattern gives a parameter, if any.

        Args:
            names: The parameter's name and aliases.
        """
        pattern = self.pattern_of(names)
        return None if pattern is None else dict(self.overrides)[pattern]

    def pattern_of(self, names: Iterable[str]) -> str | None:
        """Return the last pattern of `override` that matches a parameter, if any."""
        known = tuple(names)
        for pattern, _ in reversed(self.overrides):
            if any(fnmatchcase(name, pattern) for name in known):
                return pattern
        return None

    def _check_guards(self) -> None:
        if self.clip is not None and not isinstance(self.clip, Clip):
            raise PlanError(
                f"policy.clip: expected a Clip, such as Clip(norm=1.0), got "
                f"{self.clip!r}"
            )
        if not isinstance(self.master_weights, bool):
            raise PlanError(
                f"policy.master_weights: expected True or False, got "
                f"{self.master_weights!r}"
            )
        if self.loss_scale is not None and not isinstance(self.loss_scale, LossScale):
            scale = LossScale(initial=self.loss_scale, interval=0)
            object.__setattr__(self, "loss_scale", scale)
        scaling = self.scaling
        if self.non_finite == "zero" and scaling is not None and scaling.is_dynamic:
            raise PlanError(
                "policy.non_finite = 'zero' hides the steps that a dynamic loss scale "
                "has to see. Use non_finite='skip', or a loss scale of one number"
            )
        if self.wire_dtype is not None and self.reduction == "fast":
            raise PlanError(
                f"policy.wire_dtype = {self.wire_dtype!r} needs the sums to be made "
                "here, but reduction='fast' leaves them to MPI, which sums what "
                "travels. Use reduction='canonical', or no wire_dtype"
            )


def _check_choice(value: object, what: str, choices: tuple[str, ...]) -> None:
    is_optional = what == "policy.wire_dtype"
    if value not in choices and not (is_optional and value is None):
        raise PlanError(
            f"{what}: unknown {value!r}. {did_you_mean(str(value), choices)}"
        )


def _check_memory_limit(value: object) -> None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_number and value is not None and value != "unlimited":
        raise PlanError(
            "policy.memory_limit_bytes: expected None (what the machine has free), "
            f"'unlimited' or a whole number >= 1, got {value!r}"
        )


def _as_overrides(value: object) -> tuple[tuple[str, Level], ...]:
    pairs = value.items() if isinstance(value, Mapping) else value
    expected = (
        "policy.override: expected patterns and levels, such as {'head.*': 0}, got "
    )
    if not isinstance(pairs, Iterable) or isinstance(pairs, str):
        raise PlanError(f"{expected}{value!r}")
    overrides = []
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise PlanError(f"{expected}{pair!r}")
        pattern, level = pair
        if not isinstance(pattern, str) or not pattern.isprintable() or not pattern:
            raise PlanError(f"{expected}the pattern {pattern!r}")
        what = f"policy.override of {pattern!r}"
        overrides.append((pattern, as_level(level, what)))
    return tuple(overrides)
