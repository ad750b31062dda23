"""`AdaMax` as in MindSpore, `NAdam` and `RAdam` as in PyTorch: relatives of Adam."""

from parallel_params.nn.parameter import Parameter
from parallel_params.optim.checks import (
    check_beta,
    check_eps,
    check_flag,
    check_not_negative,
)
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.adamax import AdaMaxRule
from parallel_params.optim.rules.nadam import NAdamRule
from parallel_params.optim.rules.radam import RAdamRule


class AdaMax(Optimizer):
    """Adam with the largest gradient for a second moment, as `mindspore.nn.AdaMax`.

    State: `moment1`, `moment2`; and `beta1_power`, as in `Adam`.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        eps: added to the second moment.
        weight_decay: added to the gradient, times the weight.
        loss_scale: see `Optimizer`.

    Raises:
        TypeError: a beta or eps is no float (an int neither).
        ValueError: a beta is not between 0 and 1, or eps not above 0.
    """

    beta1_power: Parameter

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(
            AdaMaxRule(
                beta1=check_beta("beta1", beta1),
                beta2=check_beta("beta2", beta2),
                eps=check_eps("eps", eps),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
            scalars={"beta1_power": 1.0},
        )
        self._beta1 = beta1

    def advance(self) -> None:
        """Count a step in `global_step` and `beta1_power`."""
        super().advance()
        self.beta1_power.asnumpy()[...] = self._beta1**self.num_steps


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, as `torch.optim.NAdam`.

    State: `moment1`, `moment2`. PyTorch's running product of momenta is computed from
    the step and no state.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        eps: added to the root of the corrected second moment.
        weight_decay: added to the gradient, times the weight, or decoupled.
        momentum_decay: how fast the momentum grows.
        decoupled_weight_decay: take the decay off the weight, as `AdamW` does.

    Raises:
        TypeError: a number is none, a beta or eps no float, or a flag no bool.
        ValueError: a beta is not between 0 and 1, eps not above 0, or another number
            negative.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 2e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            NAdamRule(
                beta1=check_beta("beta1", beta1),
                beta2=check_beta("beta2", beta2),
                eps=check_eps("eps", eps),
                momentum_decay=check_not_negative("momentum_decay", momentum_decay),
                is_decoupled=check_flag(
                    "decoupled_weight_decay", decoupled_weight_decay
                ),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )


class RAdam(Optimizer):
    """Adam that begins as momentum, without a warm-up, as `torch.optim.RAdam`.

    State: `moment1`, `moment2`.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        eps: added to the root of the second moment.
        weight_decay: added to the gradient, times the weight, or decoupled.
        decoupled_weight_decay: take the decay off the weight, as `AdamW` does.

    Raises:
        TypeError: a beta or eps is no float (an int neither), or a flag no bool.
        ValueError: a beta is not between 0 and 1, or eps not above 0.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            RAdamRule(
                beta1=check_beta("beta1", beta1),
                beta2=check_beta("beta2", beta2),
                eps=check_eps("eps", eps),
                is_decoupled=check_flag(
                    "decoupled_weight_decay", decoupled_weight_decay
                ),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
