"""Learning rates as pure functions of the step: nothing to save, nothing to keep alike.

A schedule is called with the 0-based step and gives the rate of that step. It is a
value: it compares, hashes and prints by its numbers. `Plateau`, which also depends on a
metric, lives in `optim/plateau.py`.
"""

from parallel_params.optim.schedules.base import Schedule, ScheduleLike
from parallel_params.optim.schedules.compose import Chained, WarmUp
from parallel_params.optim.schedules.falls import (
    Cosine,
    CosineRestarts,
    InverseSquareRoot,
    Linear,
    OneCycle,
    Polynomial,
    Wsd,
)
from parallel_params.optim.schedules.steps import (
    Constant,
    Exponential,
    MultiStep,
    StepDecay,
)

__all__ = [
    "Schedule",
    "ScheduleLike",
    "Constant",
    "Linear",
    "Polynomial",
    "Cosine",
    "CosineRestarts",
    "InverseSquareRoot",
    "StepDecay",
    "MultiStep",
    "Exponential",
    "Wsd",
    "OneCycle",
    "WarmUp",
    "Chained",
]
