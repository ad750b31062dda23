"""`Lion`, and `Rprop` as in MindSpore: optimizers that step along signs."""

from collections.abc import Sequence

from parallel_params.optim.checks import check_beta, check_float, check_positive
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.lion import LionRule
from parallel_params.optim.rules.rprop import RpropRule


class Lion(Optimizer):
    """Steps along the sign of a momentum; neither library has it.

    State: `exp_avg`. The paper takes a third to a tenth of AdamW's learning rate, and
    as much more weight decay.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1: memory of what the sign is taken of.
        beta2: memory of the momentum.
        weight_decay: taken off the weight, times the weight and the learning rate.

    Raises:
        TypeError: a beta is no float (an int neither).
        ValueError: a beta is not between 0 and 1.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            LionRule(
                beta1=check_beta("beta1", beta1), beta2=check_beta("beta2", beta2)
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )


class Rprop(Optimizer):
    """Steps whose length follows the signs of gradients, as `mindspore.nn.Rprop`.

    State: `prev`, `step_size`. For gradients of the full batch.

    Args:
        params: see `Optimizer`.
        learning_rate: the first length of every step; later rates change nothing.
        etas: what a length is multiplied by where the sign has changed, and where not.
        step_sizes: the least and the largest length.
        weight_decay: added to the gradient, times the weight.

    Raises:
        TypeError: a member of a pair is no float.
        ValueError: not 0 < etas[0] < 1 < etas[1], or not 0 < the least length < the
            largest.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 0.1,
        etas: Sequence[float] = (0.5, 1.2),
        step_sizes: Sequence[float] = (1e-6, 50.0),
        weight_decay: float = 0.0,
    ) -> None:
        minus, plus = _check_pair("etas", etas)
        least, largest = _check_pair("step_sizes", step_sizes)
        if not minus < 1.0 < plus:
            raise ValueError(f"etas must lie on both sides of 1, not {etas!r}")
        if not least < largest:
            raise ValueError(f"step_sizes must be ascending, not {step_sizes!r}")
        super().__init__(
            RpropRule(
                eta_minus=minus, eta_plus=plus, least_step=least, largest_step=largest
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )


def _check_pair(what: str, values: object) -> tuple[float, float]:
    if not isinstance(values, list | tuple) or len(values) != 2:
        raise ValueError(f"{what} must be two floats, not {values!r}")
    first, second = (
        check_positive(f"{what}[{i}]", check_float(f"{what}[{i}]", value))
        for i, value in enumerate(values)
    )
    return first, second
