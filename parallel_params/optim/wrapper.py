"""Optimizers around another one: its parameters, groups, rates, steps and state."""

from collections.abc import Callable
from dataclasses import replace

from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rule import AnyRule


class Wrapper(Optimizer):
    """An optimizer that takes over what another one has, under a rule of its own.

    Args:
        optimizer: to be wrapped; from then on it can only be stepped through this one.
        rule: the arithmetic; its state includes that of the rule inside.
        is_adapted: see `Settings`, by parameter; by default as it is.

    Raises:
        ManagedOptimizerError: the optimizer has been adopted.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        rule: AnyRule,
        *,
        is_adapted: Callable[[Parameter], bool] | None = None,
    ) -> None:
        # Not by Optimizer's: rates and steps are those of the optimizer inside.
        Cell.__init__(self, auto_prefix=False)
        optimizer.check_adoptable()
        settings = [optimizer.settings(i) for i in range(len(optimizer.parameters))]
        if is_adapted is not None:
            settings = [
                replace(each, is_adapted=bool(is_adapted(parameter)))
                for each, parameter in zip(settings, optimizer.parameters, strict=True)
            ]
        self._loss_scale = optimizer.loss_scale
        self.global_step = optimizer.global_step
        self._bind(rule, optimizer.parameters, settings)
        self._take_state(optimizer)
        optimizer.adopt(type(self).__name__)
        self.opt = optimizer
        self._is_built = True

    def rates(self, step: int) -> tuple[float, ...]:
        """Return the learning rate of every group at the 0-based `step`."""
        return self.opt.rates(step)

    def advance(self) -> None:
        """Count a step, in the optimizer inside."""
        self.opt.advance()
