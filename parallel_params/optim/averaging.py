"""Optimizers with other weights to evaluate with: `EMA`, `ScheduleFreeAdamW`."""

from parallel_params.optim.checks import (
    check_beta,
    check_count,
    check_eps,
)
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.average import AVERAGE, Averaging, averaged
from parallel_params.optim.rules.schedule_free import ScheduleFreeAdamWRule
from parallel_params.optim.wrapper import Wrapper


class EMA(Wrapper):
    """Another optimizer, and an average of the weights that it makes.

    The average is state like any other, `average_weight`: sharded, saved and moved with
    the rest. `with optimizer.evaluation():`, or `with manager.evaluation():` when it is
    managed, puts it in the place of the weights for a while.

    Args:
        optimizer: to be wrapped, of any rule.
        decay: memory of the average; None for the mean of all weights (SWA).
        start: steps before the average begins; until then it is the weights.

    Raises:
        TypeError: `optimizer` is none, decay no float, or start no int.
        ValueError: decay is not between 0 and 1, or start negative.
        ManagedOptimizerError: the optimizer has been adopted.
    """

    def __init__(
        self, optimizer: Optimizer, decay: float | None = 0.999, start: int = 0
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"EMA takes an optimizer, not a {type(optimizer).__name__}; build that "
                "first, as in EMA(AdamW(params))"
            )
        averaging = Averaging(
            decay=None if decay is None else check_beta("decay", decay),
            start=check_count("start", start, least=0),
        )
        super().__init__(optimizer, averaged(optimizer.rule, averaging))
        if self.num_steps:
            # Steps were taken without it: it begins with the weights that there are.
            for p, average in zip(self.parameters, getattr(self, AVERAGE), strict=True):
                average.asnumpy()[...] = p.asnumpy()


class ScheduleFreeAdamW(Optimizer):
    """AdamW that needs no schedule, only an average; neither library has it.

    State: `z`, `exp_avg_sq`. The weights are those to take gradients at. Those to
    evaluate with are there inside of `with optimizer.evaluation():`, or `with
    manager.evaluation():` when it is managed.

    Args:
        params: see `Optimizer`.
        learning_rate: see `Optimizer`; best a constant.
        beta1: where between average and steps gradients are taken.
        beta2: memory of the second moment.
        eps: added to the root of the corrected second moment.
        weight_decay: added to the step, times the weight.
        warmup_steps: over which the rate rises in a line.

    Raises:
        TypeError: a beta or eps is no float (an int neither), or `warmup_steps` no int.
        ValueError: a beta is not between 0 and 1, eps not above 0, or `warmup_steps`
            negative.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 2.5e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(
            ScheduleFreeAdamWRule(
                beta1=check_beta("beta1", beta1),
                beta2=check_beta("beta2", beta2),
                eps=check_eps("eps", eps),
                warmup=check_count("warmup_steps", warmup_steps, least=0),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
