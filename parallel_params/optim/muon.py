"""`Muon` as in PyTorch; MindSpore has none."""

import math
from collections.abc import Sequence

from parallel_params.optim.checks import (
    check_flag,
    check_not_negative,
    check_number,
    check_positive,
)
from parallel_params.optim.matrices import check_matrices
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.muon import (
    ADJUSTMENTS,
    COEFFICIENTS,
    AdjustRate,
    Coefficients,
    MuonRule,
)

MAX_ITERATIONS = 99  # PyTorch's


class Muon(Optimizer):
    """Momentum made orthogonal, for matrices only, as `torch.optim.Muon`.

    State: `momentum_buffer`. A matrix is moved by one owner; biases, norms and the
    like go to a second optimizer.

    Args:
        params: see `Optimizer`; all of two dims.
        learning_rate: see `Optimizer`.
        weight_decay: taken off the weight, times the weight and the learning rate.
        momentum: what is kept of the average of gradients.
        nesterov: look ahead along it.
        ns_coefficients: of the polynomial of Newton-Schulz.
        eps: the least norm that is divided by.
        ns_steps: iterations of Newton-Schulz.
        adjust_lr_fn: how the rate depends on the shape: `original`, which None means
            too, or `match_rms_adamw`.

    Raises:
        TypeError: a number is none, or `nesterov` is no bool.
        ValueError: a number lies outside its range, `adjust_lr_fn` is unknown, or a
            parameter is no matrix.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: Sequence[float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(
            MuonRule(
                momentum=check_not_negative("momentum", momentum),
                nesterov=check_flag("nesterov", nesterov),
                coefficients=_check_coefficients(ns_coefficients),
                eps=check_positive("eps", eps),
                num_iterations=_check_iterations(ns_steps),
                adjust_rate=_check_adjustment(adjust_lr_fn),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
        check_matrices("Muon", self.parameters)


def _check_coefficients(values: Sequence[float]) -> Coefficients:
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ValueError(f"ns_coefficients must be three numbers, not {values!r}")
    a, b, c = (check_number(f"ns_coefficients[{i}]", v) for i, v in enumerate(values))
    return a, b, c


def _check_iterations(value: object) -> int:
    number = check_number("ns_steps", value)
    if not (1 <= number <= MAX_ITERATIONS and number == math.floor(number)):
        raise ValueError(
            f"ns_steps must be a whole number from 1 to {MAX_ITERATIONS}, not {value!r}"
        )
    return int(number)


def _check_adjustment(name: str | None) -> AdjustRate:
    for known in ADJUSTMENTS:
        if name == known:
            return known
    if name is None:
        return "original"
    raise ValueError(f"adjust_lr_fn must be None or of {ADJUSTMENTS}, not {name!r}")
