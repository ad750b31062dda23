"""`SGD` and `Momentum` under MindSpore's names and with its constructors."""

import warnings

from parallel_params.nn.parameter import Parameter
from parallel_params.optim.checks import check_flag, check_not_negative
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rule import Rule
from parallel_params.optim.rules.sgd import MomentumRule, SgdRule


class _WithMomentum(Optimizer):
    """Lists `momentum` as a parameter, and refuses another value in it."""

    momentum: Parameter

    def __init__(
        self,
        rule: Rule,
        momentum: float,
        params: object,
        *,
        learning_rate: RateLike,
        weight_decay: float,
        loss_scale: float,
    ) -> None:
        super().__init__(
            rule,
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
            scalars={"momentum": momentum},
        )
        self._given_momentum = self.momentum.item()

    def rates(self, step: int) -> tuple[float, ...]:
        """Return the learning rate of every group at the 0-based `step`.

        Raises:
            RuntimeError: the parameter `momentum` was given another value.
        """
        if self.momentum.item() != self._given_momentum:
            raise RuntimeError(
                f"momentum of this {type(self).__name__} is {self._given_momentum:g} "
                f"and cannot be set to {self.momentum.item():g}: rule and state are "
                "fixed; build another optimizer"
            )
        return super().rates(step)


class SGD(_WithMomentum):
    """Stochastic gradient descent, as `mindspore.nn.SGD` and `torch.optim.SGD`.

    State: `accum` if there is momentum. MindSpore's `stat`, which marks the first step,
    is not kept: `global_step` says the same.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        momentum: what is kept of the last step.
        dampening: what is left out of a gradient, from the second step on.
        weight_decay: added to the gradient, times the weight.
        nesterov: look ahead along the momentum; needs momentum, and dampening 0.
        loss_scale: see `Optimizer`.

    Raises:
        TypeError: a number is none, or `nesterov` is no bool.
        ValueError: a number is negative, or `nesterov` lacks what it needs.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        loss_scale: float = 1.0,
    ) -> None:
        rule = SgdRule(
            momentum=check_not_negative("momentum", momentum),
            dampening=check_not_negative("dampening", dampening),
            nesterov=check_flag("nesterov", nesterov),
        )
        if rule.nesterov and not (rule.momentum > 0 and rule.dampening == 0):
            raise ValueError(
                f"nesterov needs a momentum above 0 and no dampening, and momentum is "
                f"{momentum!r}, dampening {dampening!r}"
            )
        super().__init__(
            rule,
            rule.momentum,
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
        )


class Momentum(_WithMomentum):
    """Gradient descent with momentum, as `mindspore.nn.Momentum`.

    State: `moments`. `use_nesterov` warns that it changes nothing, as is the case on
    MindSpore's CPU back end; `SGD(nesterov=True)` does look ahead.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        momentum: what is kept of the last step.
        weight_decay: added to the gradient, times the weight.
        loss_scale: see `Optimizer`.
        use_nesterov: for MindSpore's sake.

    Raises:
        TypeError: a number is none, or `use_nesterov` is no bool.
        ValueError: a number is negative.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike,
        momentum: float,
        weight_decay: float = 0.0,
        loss_scale: float = 1.0,
        use_nesterov: bool = False,
    ) -> None:
        if check_flag("use_nesterov", use_nesterov):
            warnings.warn(
                "Momentum(use_nesterov=True) changes nothing, as on MindSpore's CPU "
                "back end; SGD(nesterov=True) looks ahead",
                stacklevel=2,
            )
        rule = MomentumRule(momentum=check_not_negative("momentum", momentum))
        super().__init__(
            rule,
            rule.momentum,
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
        )
