"""What every optimizer of the [optim] table has, besides its own keys."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from parallel_params.train.config.limits import (
    STRICT,
    Beta,
    NotNegative,
    Positive,
    PositiveOrDynamic,
    Text,
    Whole,
)
from parallel_params.train.config.schedules import ConstantSchedule, Schedule

_CONSTANT = ConstantSchedule()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEntry:
    """Parameters whose names match a pattern, and their numbers."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    match: Text
    """Pattern of names, as in *.bias."""
    lr: Positive | None = None
    """Learning rate, before the schedule; by default `optim.lr`."""
    weight_decay: NotNegative | None = None
    """By default `optim.weight_decay`."""
    schedule: Schedule | None = None
    """How the rate changes; by default as `optim.schedule` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """An average of the weights beside them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["none", "exponential", "mean"] = "none"
    """none; exponential, of `decay`; or the mean of all weights from `start` on."""
    decay: Beta = 0.999
    """Memory of an exponential average."""
    start: Whole = 0
    """Steps before the average begins; until then it is the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptim:
    """What every optimizer has: a rate, and what is done to gradients before it.

    Meanings stand in the types here: pydantic reads a class's own docstrings alone.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    lr: Annotated[Positive, Field(description="Learning rate, before the schedule.")]
    schedule: Annotated[
        Schedule,
        Field(description="How the learning rate changes from step to step."),
    ] = _CONSTANT
    clip_norm: Annotated[
        Positive | None,
        Field(description="Largest norm of the mean gradient; longer ones are scaled."),
    ] = None
    clip_value: Annotated[
        Positive | None,
        Field(description="Largest absolute value of an element of the mean gradient."),
    ] = None
    clip_per: Annotated[
        Literal["all", "group", "parameter"],
        Field(description="Whose norm: of all gradients, each group, each parameter."),
    ] = "all"
    non_finite: Annotated[
        Literal["ignore", "raise", "skip", "zero"],
        Field(
            description="A gradient is inf or nan: raise ends the run, skip leaves out "
            "the step, zero takes 0 for such elements."
        ),
    ] = "raise"
    loss_scale: Annotated[
        PositiveOrDynamic | None,
        Field(
            description="Factor on the loss that keeps small gradients above 0; "
            '"dynamic" grows and shrinks it.'
        ),
    ] = None
    ema: Annotated[
        Average,
        Field(description="An average of the weights, to evaluate with and to keep."),
    ] = Average()
    group: Annotated[
        tuple[GroupEntry, ...],
        Field(
            description="Parameters with numbers of their own; of several that match "
            "the last one counts."
        ),
    ] = ()
