"""`Adagrad`, `Adadelta` and `RMSProp` under MindSpore's names and constructors."""

from parallel_params.optim.checks import (
    check_eps,
    check_flag,
    check_float,
    check_fraction,
    check_not_negative,
)
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.adagrad import AdadeltaRule, AdagradRule
from parallel_params.optim.rules.rmsprop import RmsPropRule


class Adagrad(Optimizer):
    """Steps divided by the root of all squares so far, as `mindspore.nn.Adagrad`.

    State: `accum`.

    Args:
        params: see `Optimizer`.
        accum: what the sum of squares starts from.
        learning_rate: see `Optimizer`.
        update_slots: whether squares are added at all.
        loss_scale: see `Optimizer`.
        weight_decay: added to the gradient, times the weight.

    Raises:
        TypeError: a number is none, `accum` no float, or `update_slots` no bool.
        ValueError: a number is negative.
    """

    def __init__(
        self,
        params: object,
        accum: float = 0.1,
        learning_rate: RateLike = 1e-3,
        update_slots: bool = True,
        loss_scale: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            AdagradRule(
                initial=check_not_negative("accum", check_float("accum", accum)),
                update_slots=check_flag("update_slots", update_slots),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
        )


class Adadelta(Optimizer):
    """Steps in the unit of the weights, as `mindspore.nn.Adadelta`.

    State: `accum`, `accum_update`.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        rho: memory of both averages.
        epsilon: added under both roots.
        loss_scale: see `Optimizer`.
        weight_decay: added to the gradient, times the weight.

    Raises:
        TypeError: a number is none, or rho or epsilon no float.
        ValueError: rho is not between 0 and 1, or epsilon not above 0.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 1.0,
        rho: float = 0.9,
        epsilon: float = 1e-6,
        loss_scale: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            AdadeltaRule(
                rho=check_fraction("rho", check_float("rho", rho)),
                eps=check_eps("epsilon", epsilon),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
        )


class RMSProp(Optimizer):
    """Steps divided by the root of an average of squares, as `mindspore.nn.RMSProp`.

    State: `mean_square`, `moment`; centred, `mean_gradient`. The average of squares
    starts from 1, as MindSpore's.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        decay: memory of the averages.
        momentum: what is kept of the last step.
        epsilon: added under the root.
        use_locking: for MindSpore's sake; one thread moves a parameter anyway.
        centered: divide by the standard deviation instead.
        loss_scale: see `Optimizer`.
        weight_decay: added to the gradient, times the weight.

    Raises:
        TypeError: a number is no float, or a flag no bool.
        ValueError: decay is not from 0 to 1, momentum negative, or epsilon not above 0.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 0.1,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        loss_scale: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        check_flag("use_locking", use_locking)
        super().__init__(
            RmsPropRule(
                decay=check_fraction("decay", check_float("decay", decay)),
                momentum=check_not_negative(
                    "momentum", check_float("momentum", momentum)
                ),
                eps=check_eps("epsilon", epsilon),
                centered=check_flag("centered", centered),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
        )
