"""The optimizers of the [optim] table: one dataclass each.

Keys and defaults only; keys are those of the optimizers' constructors, but for those
that `train/optimizers.py` names. What optimizers have in common is in `optim.py`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from parallel_params.train.config.limits import (
    STRICT,
    AboveOne,
    Beta,
    Count,
    Fraction,
    MaybeBeta,
    NotNegative,
    NotPositive,
    NumIterations,
    Positive,
)
from parallel_params.train.config.optim_common import CommonOptim


@dataclass(frozen=True, slots=True, kw_only=True)
class OthersOptim:
    """AdamW, for what is no matrix."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    lr: Positive | None = None
    """Learning rate, before the schedule; by default `optim.lr`."""
    weight_decay: NotNegative = 0.01
    """Share of the weight taken away each step, times the learning rate."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SgdOptim(CommonOptim):
    """Stochastic gradient descent."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["sgd"]
    """Which optimizer: stochastic gradient descent."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    momentum: NotNegative = 0.0
    """Share of the last step that is repeated."""
    dampening: NotNegative = 0.0
    """Share of the gradient that momentum leaves out."""
    nesterov: bool = False
    """Look ahead along the momentum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentumOptim(CommonOptim):
    """Gradient descent with momentum."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["momentum"]
    """Which optimizer: gradient descent with momentum."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    momentum: NotNegative = 0.9
    """Share of the last step that is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdagradOptim(CommonOptim):
    """Adagrad."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adagrad"]
    """Which optimizer: steps divided by the root of all squares so far."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    accum: NotNegative = 0.1
    """What the sum of squares starts from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdadeltaOptim(CommonOptim):
    """Adadelta."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adadelta"]
    """Which optimizer: steps in the unit of the weights; try lr = 1."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    rho: Fraction = 0.9
    """Memory of both averages."""
    eps: Positive = 1e-6
    """Added under both roots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RmsPropOptim(CommonOptim):
    """RMSProp."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["rmsprop"]
    """Which optimizer: steps divided by the root of an average of squares."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    decay: Fraction = 0.9
    """Memory of the averages."""
    momentum: NotNegative = 0.0
    """Share of the last step that is repeated."""
    eps: Positive = 1e-10
    """Added under the root."""
    centered: bool = False
    """Divide by the standard deviation instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpropOptim(CommonOptim):
    """Rprop."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["rprop"]
    """Which optimizer: steps that follow signs, for full batches."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    eta_minus: Beta = 0.5
    """What a step is multiplied by where the sign has changed."""
    eta_plus: AboveOne = 1.2
    """What a step is multiplied by where it has not."""
    least_step: Positive = 1e-6
    """The least step."""
    largest_step: Positive = 50.0
    """The largest step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FtrlOptim(CommonOptim):
    """FTRL."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["ftrl"]
    """Which optimizer: follow the regularised leader, for sparse weights."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    initial_accum: NotNegative = 0.1
    """What the sum of squares starts from."""
    lr_power: NotPositive = -0.5
    """Power of the sum of squares; 0 keeps the rate as it is."""
    l1: NotNegative = 0.0
    """How far weights are pulled to zero, and held there."""
    l2: NotNegative = 0.0
    """How strongly they are pulled to zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LionOptim(CommonOptim):
    """Lion."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["lion"]
    """Which optimizer: the sign of a momentum; try a tenth of AdamW's lr."""
    weight_decay: NotNegative = 0.0
    """Share of the weight taken away each step, times the learning rate."""
    beta1: Beta = 0.9
    """Memory of what the sign is taken of."""
    beta2: Beta = 0.99
    """Memory of the momentum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LambOptim(CommonOptim):
    """LAMB."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["lamb"]
    """Which optimizer: Adam for large batches, steps scaled to the weights."""
    weight_decay: NotNegative = 0.0
    """Added to the update, times the weight, before norms are taken."""
    beta1: Beta = 0.9
    """Memory of the first moment."""
    beta2: Beta = 0.999
    """Memory of the second moment."""
    eps: Positive = 1e-6
    """Added to the root of the second moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LarsOptim(CommonOptim):
    """LARS."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["lars"]
    """Which optimizer: momentum for large batches, gradients scaled to the weights."""
    weight_decay: NotNegative = 0.0
    """Added to the gradient, times the weight."""
    momentum: NotNegative = 0.9
    """Share of the last step that is repeated."""
    coefficient: NotNegative = 0.001
    """How far a step goes at most, in norms of the weights."""
    epsilon: NotNegative = 1e-5
    """Added to the norm that is divided by."""
    use_clip: bool = False
    """Never scale a gradient above what it is, over the learning rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaFactorOptim(CommonOptim):
    """Adafactor."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["adafactor"]
    """Which optimizer: Adam with a second moment by row and by column."""
    weight_decay: NotNegative = 0.0
    """Share of the weight taken away each step, times the learning rate."""
    beta1: MaybeBeta = 0.0
    """Memory of the average of updates; 0 for none."""
    decay_rate: Beta = 0.8
    """The average of squares moves by step to the power of minus this."""
    clip_threshold: Positive = 1.0
    """How long an update may be, as a root mean square."""
    scale_parameter: bool = True
    """Multiply the rate by the root mean square of the weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MuonOptim(CommonOptim):
    """Muon."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["muon"]
    """Which optimizer: momentum made orthogonal, for matrices."""
    weight_decay: NotNegative = 0.1
    """Share of the weight taken away each step, times the learning rate."""
    momentum: NotNegative = 0.95
    """Share of the average of gradients that is kept."""
    nesterov: bool = True
    """Look ahead along the average."""
    ns_steps: NumIterations = 5
    """Iterations of Newton-Schulz."""
    adjust_lr: Literal["original", "match_rms_adamw"] = "original"
    """How the rate depends on the shape; the latter lets AdamW's lr be kept."""
    others: OthersOptim = OthersOptim()
    """What is no matrix is moved by AdamW; its settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapOptim(CommonOptim):
    """SOAP."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["soap"]
    """Which optimizer: Adam in Shampoo's eigenbasis, for matrices."""
    weight_decay: NotNegative = 0.01
    """Share of the weight taken away each step, times the learning rate."""
    beta1: Beta = 0.95
    """Memory of the first moment."""
    beta2: Beta = 0.95
    """Memory of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    shampoo_beta: Beta = 0.95
    """Memory of the preconditioner."""
    precondition_frequency: Count = 10
    """Steps between two turns of the bases."""
    max_side: Count = 4096
    """Elements of a side of a matrix; a longer one has no basis."""
    one_sided: bool = False
    """Give only the shorter side a basis."""
    others: OthersOptim = OthersOptim()
    """What is no matrix is moved by AdamW; its settings."""
