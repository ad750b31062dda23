"""Adam and its relatives in the [optim] table: one dataclass each.

Keys and defaults only, as in `optimizers.py`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from parallel_params.train.config.limits import (
    STRICT,
    Beta,
    NotNegative,
    Positive,
    Whole,
)
from parallel_params.train.config.optim_common import CommonOptim


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamOptim(CommonOptim):
    """Adam."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adam"]
    """Which optimizer: Adam, weight decay inside the gradient."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    use_nesterov: bool = False
    """Look ahead along the first moment."""
    amsgrad: bool = False
    """Divide by the largest second moment so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWOptim(CommonOptim):
    """Adam with decoupled weight decay."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adamw"]
    """Which optimizer: Adam, weight decay beside the gradient."""
    weight_decay: NotNegative = 0.01
    """Share of the weight taken away each step, times the learning rate."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    amsgrad: bool = False
    """Divide by the largest second moment so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWeightDecayOptim(CommonOptim):
    """MindSpore's AdamWeightDecay."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adamweightdecay"]
    """Which optimizer: MindSpore's AdamWeightDecay, without bias correction."""
    weight_decay: NotNegative = 0.0
    """Share of the weight taken away each step, times the learning rate."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-6
    """Added to the root of the second moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaMaxOptim(CommonOptim):
    """AdaMax."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adamax"]
    """Which optimizer: Adam with the largest gradient for a second moment."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NAdamOptim(CommonOptim):
    """NAdam."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["nadam"]
    """Which optimizer: Adam with Nesterov's momentum."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    momentum_decay: NotNegative = 4e-3
    """How fast the momentum grows."""
    decoupled: bool = False
    """Take the decay off the weight, as AdamW does, not into the gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RAdamOptim(CommonOptim):
    """RAdam."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["radam"]
    """Which optimizer: Adam that begins as momentum and needs no warm-up."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    decoupled: bool = False
    """Take the decay off the weight, as AdamW does, not into the gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFreeOptim(CommonOptim):
    """Schedule-free AdamW."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["schedulefree"]
    """Which optimizer: AdamW with an average instead of a schedule."""
    weight_decay: NotNegative = 0.0
    """Share of the weight taken away each step, times the learning rate."""
    beta1: Beta = 0.9
    """Where between average and steps gradients are taken."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    warmup_steps: Whole = 0
    """Steps over which the rate rises; weighed less in the average, too."""
