"""The [optim.schedule] table: one dataclass per schedule.

Keys and defaults only. `train/schedule.py` makes schedules of them; what each does is
said in `optim/schedules.py`.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

from parallel_params.train.config.limits import (
    STRICT,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Whole,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSchedule:
    """What every schedule has: a warm-up in front.

    Meanings stand in the types here: pydantic reads a class's own docstrings alone.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: str
    warmup: Annotated[
        Whole, Field(description="Steps until the rate has risen to `lr`, in a line.")
    ] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantSchedule(CommonSchedule):
    """The learning rate stays what it is."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["constant"] = "constant"
    """Which schedule: `lr` at every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSchedule(CommonSchedule):
    """The learning rate falls in a line."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["linear"]
    """Which schedule: up to `lr` in a line, then down in a line."""
    final: Fraction = 0.0
    """Rate after the last step, as a fraction of `lr`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialSchedule(CommonSchedule):
    """The learning rate falls as a power of the way that is left."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["polynomial"]
    """Which schedule: up to `lr` in a line, then down as a power of what is left."""
    power: Positive = 2.0
    """Of the share of the steps that is left."""
    final: Fraction = 0.0
    """Rate after the last step, as a fraction of `lr`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineSchedule(CommonSchedule):
    """The learning rate falls in half a cosine."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["cosine"]
    """Which schedule: up to `lr` in a line, then down in half a cosine."""
    final: Fraction = 0.0
    """Rate after the last step, as a fraction of `lr`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineRestartsSchedule(CommonSchedule):
    """The learning rate falls in half a cosine, again and again."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["cosine-restarts"]
    """Which schedule: half cosines one after the other, from `lr` each."""
    period: Count
    """Steps of the first of them."""
    factor: Count = 1
    """How much longer each is than the one before."""
    final: Fraction = 0.0
    """Rate at the end of each, as a fraction of `lr`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InverseSqrtSchedule(CommonSchedule):
    """The learning rate falls as the inverse square root of the step."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["inverse-sqrt"]
    """Which schedule: up to `lr` in a line, then down as the root of the step grows."""
    timescale: Count | None = None
    """Steps after which the rate is 0.7 of `lr`; by default the warm-up, or 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSchedule(CommonSchedule):
    """The learning rate falls every so many steps."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["step"]
    """Which schedule: `lr`, multiplied by `gamma` every so many steps."""
    every: Count
    """Steps between two falls."""
    gamma: Positive = 0.1
    """What the rate is multiplied by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiStepSchedule(CommonSchedule):
    """The learning rate falls at given steps."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["multi-step"]
    """Which schedule: `lr`, multiplied by `gamma` at every milestone."""
    milestones: tuple[Count, ...]
    """Steps, counted from the end of the warm-up, from which on the rate is lower."""
    gamma: Positive = 0.1
    """What the rate is multiplied by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialSchedule(CommonSchedule):
    """The learning rate falls by a factor, smoothly."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["exponential"]
    """Which schedule: `lr`, multiplied by `gamma` every so many steps, smoothly."""
    every: Count
    """Steps in which the rate is multiplied by `gamma`."""
    gamma: Positive = 0.1
    """What the rate is multiplied by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WsdSchedule(CommonSchedule):
    """The learning rate rises, stays, and falls at the end."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["wsd"]
    """Which schedule: up to `lr` in a line, then `lr`, and down at the end."""
    decay: Count
    """Steps at the end in which the rate falls."""
    shape: Literal["linear", "cosine", "sqrt"] = "linear"
    """How it falls: in a line, half a cosine, or as 1 minus a square root."""
    final: Fraction = 0.0
    """Rate after the last step, as a fraction of `lr`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateauSchedule(CommonSchedule):
    """The learning rate falls when the test score has stopped to improve."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["plateau"]
    """Which schedule: `lr`, multiplied by `factor` when the test score has stopped."""
    factor: Fraction = 0.1
    """What the rate is multiplied by."""
    patience: Whole = 3
    """Looks at the test samples without an improvement that are let pass."""
    threshold: NotNegative = 1e-4
    """By which share of the best score a score must be better."""
    cooldown: Whole = 0
    """Looks after a fall that count for nothing."""
    least: NotNegative = 0.0
    """The rate never falls below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycleSchedule:
    """The learning rate rises and falls once, each in half a cosine."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["one-cycle"]
    """Which schedule: up to `lr` and far down again, each in half a cosine."""
    rise: Fraction = 0.3
    """Share of the steps until the rate is `lr`."""
    start_div: Positive = 25.0
    """The first rate is `lr` divided by this."""
    final_div: Positive = 1e4
    """The last rate is the first divided by this."""


Schedule: TypeAlias = Annotated[
    ConstantSchedule
    | LinearSchedule
    | PolynomialSchedule
    | CosineSchedule
    | CosineRestartsSchedule
    | InverseSqrtSchedule
    | StepSchedule
    | MultiStepSchedule
    | ExponentialSchedule
    | WsdSchedule
    | PlateauSchedule
    | OneCycleSchedule,
    Field(discriminator="kind"),
]
