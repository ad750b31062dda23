"""The [optim] table: one dataclass per optimizer and per schedule.

Keys and defaults only. `train/optimizers.py` makes optimizers of them.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

from parallel_params.train.config.limits import (
    STRICT,
    Beta,
    Fraction,
    NotNegative,
    Positive,
    Whole,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantSchedule:
    """The learning rate stays what it is."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["constant"] = "constant"
    """Which schedule: `lr` at every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineSchedule:
    """The learning rate rises in a line, then falls in half a cosine."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["cosine"]
    """Which schedule: up to `lr` in a line, then down in half a cosine."""
    warmup: Whole = 0
    """Steps until the rate has risen to `lr`."""
    final: Fraction = 0.0
    """Rate after the last step, as a fraction of `lr`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSchedule:
    """The learning rate rises in a line, then falls in a line."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["linear"]
    """Which schedule: up to `lr` in a line, then down in a line."""
    warmup: Whole = 0
    """Steps until the rate has risen to `lr`."""
    final: Fraction = 0.0
    """Rate after the last step, as a fraction of `lr`."""


Schedule: TypeAlias = Annotated[
    ConstantSchedule | CosineSchedule | LinearSchedule, Field(discriminator="kind")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SgdOptim:
    """Stochastic gradient descent."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["sgd"]
    """Which optimizer: stochastic gradient descent."""
    lr: Positive
    """Learning rate, before the schedule."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    momentum: NotNegative = 0.0
    """Share of the last step that is repeated."""
    dampening: NotNegative = 0.0
    """Share of the gradient that momentum leaves out."""
    nesterov: bool = False
    """Look ahead along the momentum."""
    schedule: Schedule = ConstantSchedule()
    """How the learning rate changes from step to step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentumOptim:
    """Gradient descent with momentum."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["momentum"]
    """Which optimizer: gradient descent with momentum."""
    lr: Positive
    """Learning rate, before the schedule."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    momentum: NotNegative = 0.9
    """Share of the last step that is repeated."""
    schedule: Schedule = ConstantSchedule()
    """How the learning rate changes from step to step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamOptim:
    """Adam."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adam"]
    """Which optimizer: Adam, weight decay inside the gradient."""
    lr: Positive
    """Learning rate, before the schedule."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    schedule: Schedule = ConstantSchedule()
    """How the learning rate changes from step to step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWOptim:
    """Adam with decoupled weight decay."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adamw"]
    """Which optimizer: Adam, weight decay beside the gradient."""
    lr: Positive
    """Learning rate, before the schedule."""
    weight_decay: NotNegative = 0.01
    """Share of the weight taken away each step, times the learning rate."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    schedule: Schedule = ConstantSchedule()
    """How the learning rate changes from step to step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWeightDecayOptim:
    """MindSpore's AdamWeightDecay."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adamweightdecay"]
    """Which optimizer: MindSpore's AdamWeightDecay, without bias correction."""
    lr: Positive
    """Learning rate, before the schedule."""
    weight_decay: NotNegative = 0.0
    """Share of the weight taken away each step, times the learning rate."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-6
    """Added to the root of the second moment."""
    schedule: Schedule = ConstantSchedule()
    """How the learning rate changes from step to step."""


Optim: TypeAlias = Annotated[
    SgdOptim | MomentumOptim | AdamOptim | AdamWOptim | AdamWeightDecayOptim,
    Field(discriminator="name"),
]
