"""`Adam`, `AdamWeightDecay` and `AdamW` under MindSpore's names and constructors."""

from parallel_params.nn.parameter import Parameter
from parallel_params.optim.checks import check_beta, check_eps, check_flag
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.adam import AdamRule, AdamWeightDecayRule, AdamWRule
from parallel_params.optim.rules.amsgrad import AmsGradRule


class Adam(Optimizer):
    """Adam with L2 regularisation, as `mindspore.nn.Adam`.

    State: `moment1`, `moment2`, with `use_amsgrad` also `vhat`; and `beta1_power`,
    `beta2_power`, which are shown for MindSpore's sake and follow from `global_step`.
    eps is not corrected for the bias of the second moment; in PyTorch's Adam it is.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        eps: added to the root of the second moment.
        use_locking: for MindSpore's sake; one thread moves a parameter anyway.
        use_nesterov: look ahead along the first moment.
        weight_decay: added to the gradient, times the weight.
        loss_scale: see `Optimizer`.
        use_amsgrad: divide by the largest second moment so far.

    Raises:
        TypeError: a beta or eps is no float (an int neither), or a flag is no bool.
        ValueError: a beta is not between 0 and 1, eps not above 0, or `use_nesterov`
            and `use_amsgrad` are asked for together.
    """

    beta1_power: Parameter
    beta2_power: Parameter

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        use_locking: bool = False,
        use_nesterov: bool = False,
        weight_decay: float = 0.0,
        loss_scale: float = 1.0,
        *,
        use_amsgrad: bool = False,
    ) -> None:
        check_flag("use_locking", use_locking)
        rule: AdamRule | AmsGradRule = AdamRule(
            beta1=check_beta("beta1", beta1),
            beta2=check_beta("beta2", beta2),
            eps=check_eps("eps", eps),
            use_nesterov=check_flag("use_nesterov", use_nesterov),
        )
        if check_flag("use_amsgrad", use_amsgrad):
            if use_nesterov:
                raise ValueError(
                    "Adam takes use_nesterov or use_amsgrad, not both: no paper says "
                    "what that would be"
                )
            rule = AmsGradRule(beta1=beta1, beta2=beta2, eps=eps)
        super().__init__(
            rule,
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss_scale=loss_scale,
            scalars={"beta1_power": 1.0, "beta2_power": 1.0},
        )
        self._beta1, self._beta2 = beta1, beta2

    def advance(self) -> None:
        """Count a step in `global_step`, `beta1_power` and `beta2_power`."""
        super().advance()
        num_steps = self.num_steps
        self.beta1_power.asnumpy()[...] = self._beta1**num_steps
        self.beta2_power.asnumpy()[...] = self._beta2**num_steps


class AdamWeightDecay(Optimizer):
    """Adam as BERT was trained, as `mindspore.nn.AdamWeightDecay`.

    Weight decay is decoupled, and no bias corrected. State: `adam_m`, `adam_v`.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        eps: added to the root of the second moment.
        weight_decay: taken off the weight, times the weight and the learning rate.

    Raises:
        TypeError: a beta or eps is no float (an int neither).
        ValueError: a beta is not between 0 and 1, or eps not above 0.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            AdamWeightDecayRule(
                beta1=check_beta("beta1", beta1),
                beta2=check_beta("beta2", beta2),
                eps=check_eps("eps", eps),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )


class AdamW(Optimizer):
    """Adam with decoupled weight decay and corrected biases, as `torch.optim.AdamW`.

    State: `moment1`, `moment2`, with `amsgrad` also `vhat`.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        eps: added to the root of the corrected second moment.
        weight_decay: taken off the weight, times the weight and the learning rate.
        amsgrad: divide by the largest second moment so far.

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
        weight_decay: float = 0.01,
        *,
        amsgrad: bool = False,
    ) -> None:
        rule: AdamWRule | AmsGradRule = AdamWRule(
            beta1=check_beta("beta1", beta1),
            beta2=check_beta("beta2", beta2),
            eps=check_eps("eps", eps),
        )
        if check_flag("amsgrad", amsgrad):
            rule = AmsGradRule(beta1=beta1, beta2=beta2, eps=eps, is_decoupled=True)
        super().__init__(
            rule,
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
