"""`FTRL` under MindSpore's name and with its constructor."""

from parallel_params.optim.checks import (
    check_flag,
    check_float,
    check_not_negative,
)
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.ftrl import FtrlRule


class FTRL(Optimizer):
    """Follow the regularised leader: sparse weights, as `mindspore.nn.FTRL`.

    State: `moments`, `linear`.

    Args:
        params: see `Optimizer`.
        initial_accum: what the sum of squares starts from.
        learning_rate: see `Optimizer`.
        lr_power: of the sum of squares; 0 keeps the rate as it is.
        l1: how far weights are pulled to zero, and held there.
        l2: how strongly they are pulled to zero.
        use_locking: for MindSpore's sake; one thread moves a parameter anyway.
        loss_scale: see `Optimizer`.
        weight_decay: added to the gradient, times the weight.

    Raises:
        TypeError: a number is no float, or `use_locking` no bool.
        ValueError: a number is negative, or `lr_power` above 0.
    """

    def __init__(
        self,
        params: object,
        initial_accum: float = 0.1,
        learning_rate: RateLike = 1e-3,
        lr_power: float = -0.5,
        l1: float = 0.0,
        l2: float = 0.0,
        use_locking: bool = False,
        loss_scale: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        check_flag("use_locking", use_locking)
        if check_float("lr_power", lr_power) > 0:
            raise ValueError(f"lr_power must be 0 or less, not {lr_power!r}")
        initial, l1, l2 = (
            check_not_negative(what, check_float(what, value))
            for what, value in [
                ("initial_accum", initial_accum),
                ("l1", l1),
                ("l2", l2),
            ]
        )
        super().__init__(
            FtrlRule(initial=initial, power=lr_power, l1=l1, l2=l2),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
        )
