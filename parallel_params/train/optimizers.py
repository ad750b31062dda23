"""The optimizers a job can name, made of its [optim] table."""

from collections.abc import Sequence

from parallel_params import optim as optimizers
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.train.config.optim import (
    AdamOptim,
    AdamWeightDecayOptim,
    AdamWOptim,
    ConstantSchedule,
    MomentumOptim,
    Optim,
    SgdOptim,
)


def make_optimizer(
    optim: Optim, parameters: Sequence[Parameter], *, rates: Sequence[float]
) -> Optimizer:
    """Make the optimizer of a job on parameters, with its rate for every step."""
    rate: float | list[float] = list(rates)
    if isinstance(optim.schedule, ConstantSchedule):
        rate = optim.lr
    if isinstance(optim, SgdOptim):
        return optimizers.SGD(
            parameters,
            learning_rate=rate,
            momentum=optim.momentum,
            dampening=optim.dampening,
            weight_decay=optim.weight_decay,
            nesterov=optim.nesterov,
        )
    if isinstance(optim, MomentumOptim):
        return optimizers.Momentum(
            parameters,
            learning_rate=rate,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )
    return _adam(optim, parameters, rate)


def _adam(
    optim: AdamOptim | AdamWOptim | AdamWeightDecayOptim,
    parameters: Sequence[Parameter],
    rate: float | list[float],
) -> Optimizer:
    kinds = {
        "adam": optimizers.Adam,
        "adamw": optimizers.AdamW,
        "adamweightdecay": optimizers.AdamWeightDecay,
    }
    made: Optimizer = kinds[optim.name](
        parameters,
        learning_rate=rate,
        beta1=optim.beta1,
        beta2=optim.beta2,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
    )
    return made
