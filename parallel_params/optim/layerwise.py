"""`Lamb` and `LARS` under MindSpore's names and with its constructors.

Both scale the step of every parameter to the norm of its weights.
"""

from collections.abc import Callable

from parallel_params.nn.parameter import Parameter
from parallel_params.optim.checks import (
    check_beta,
    check_eps,
    check_flag,
    check_float,
    check_not_negative,
)
from parallel_params.optim.kinds import is_evaluated_rule, is_plain_rule
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rule import ELEMENT, Rule
from parallel_params.optim.rules.lamb import LambRule
from parallel_params.optim.rules.lars import LarsRule
from parallel_params.optim.wrapper import Wrapper


class Lamb(Optimizer):
    """Adam for large batches, its steps scaled to the weights, as `mindspore.nn.Lamb`.

    State: `lamb_m`, `lamb_v`. The arithmetic, and where it is not MindSpore's:
    `LambRule`.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        eps: added to the root of the corrected second moment.
        weight_decay: added to the update, times the weight, before norms are taken.

    Raises:
        TypeError: a beta or eps is no float (an int neither).
        ValueError: a beta is not between 0 and 1, or eps not above 0.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            LambRule(
                beta1=check_beta("beta1", beta1),
                beta2=check_beta("beta2", beta2),
                eps=check_eps("eps", eps),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )


def is_no_norm_or_bias(parameter: Parameter) -> bool:
    """Whether `LARS` adapts a parameter if not told otherwise."""
    return "LayerNorm" not in parameter.name and "bias" not in parameter.name


class LARS(Wrapper):
    """Another optimizer, its gradients scaled to the weights, as `mindspore.nn.LARS`.

    It takes over the parameters, groups, rates, steps and state of that optimizer,
    which then can only be stepped through this one. The weight decay of that is added
    to the gradient, times the weight, before that is scaled; parameters which the
    filter leaves out are moved by the gradient as it is, and not decayed.

    Args:
        optimizer: to be wrapped: of a rule that moves elements on their own.
        epsilon: added to the norm that is divided by.
        coefficient: how far a step goes at most, in norms of the weights.
        use_clip: never scale a gradient above what it is, over the learning rate.
        lars_filter: whether a parameter's gradient is scaled.

    Raises:
        TypeError: `optimizer` is none, or of a rule that needs whole parameters
            itself; epsilon or coefficient is no float, or `use_clip` no bool.
        ValueError: epsilon or coefficient is negative.
        ManagedOptimizerError: the optimizer has been adopted.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        epsilon: float = 1e-5,
        coefficient: float = 0.001,
        use_clip: bool = False,
        lars_filter: Callable[[Parameter], bool] = is_no_norm_or_bias,
    ) -> None:
        rule = LarsRule(
            inner=_check_wrappable(optimizer),
            epsilon=check_not_negative("epsilon", check_float("epsilon", epsilon)),
            coefficient=check_not_negative(
                "coefficient", check_float("coefficient", coefficient)
            ),
            use_clip=check_flag("use_clip", use_clip),
        )
        super().__init__(optimizer, rule, is_adapted=lars_filter)


def _check_wrappable(optimizer: object) -> Rule:
    """Return the rule that an optimizer has, if LARS can feed it."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"LARS takes an optimizer, not a {type(optimizer).__name__}; build that "
            "first, as in LARS(Momentum(params, 0.1, 0.9))"
        )
    rule = optimizer.rule
    if not is_plain_rule(rule) or rule.structure != ELEMENT:
        raise TypeError(
            f"LARS cannot wrap {type(optimizer).__name__}, whose rule needs whole "
            "parameters itself; wrap SGD, Momentum or one of the Adams"
        )
    if is_evaluated_rule(rule):
        raise TypeError(
            f"LARS cannot wrap {type(optimizer).__name__}, which has other weights to "
            "evaluate with; wrap LARS instead, as in EMA(LARS(...))"
        )
    optimizer.check_adoptable()
    return rule
