"""An optimizer: a rule, the parameters it moves, and the numbers of every group.

Used in one of two ways. Called with a tuple of gradients it steps its parameters where
they are, with state arrays of its own. Adopted by a `ParameterManager` it only says
what is to be done; the manager keeps the state, sharded, and calls the rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from parallel_params.errors import ManagedOptimizerError
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.optim.alone import move_whole
from parallel_params.optim.checks import check_not_negative, check_positive
from parallel_params.optim.gradients import check_gradients
from parallel_params.optim.groups import read_groups
from parallel_params.optim.kinds import is_evaluated_rule, slots_of
from parallel_params.optim.rates import RateLike, make_rates
from parallel_params.optim.rule import AnyRule, Slots
from parallel_params.optim.settings import Settings
from parallel_params.optim.state import allocate, state_name
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

__all__ = ["Optimizer", "Settings"]


class Optimizer(Cell):
    """A rule bound to parameters. Subclasses name the rule; so can you.

    Its parameters, in this order: `global_step` (int32, shape (1,)), the learning rates
    that are numbers, the model's parameters, and its own state. State arrays are made
    at the first call, or when somebody asks for the parameters.

    Args:
        rule: the arithmetic.
        params: parameters, or dicts with `params`, `lr`, `weight_decay` of a group and
            `order_params` of all. Frozen parameters are moved like the others.
        learning_rate: a number, one per step (0 after the last), or a schedule: a Cell
            or function of the step, which starts at 0.
        weight_decay: for what has none of its own. Without groups, it leaves out
            parameters with `beta` or `gamma` in the name.
        loss_scale: what the loss was multiplied by; gradients are divided by it.
        scalars: numbers to list before the state, as float32 Parameters.

    Raises:
        TypeError, ValueError, KeyError, RuntimeError: as MindSpore's optimizers, from
            the checks in `groups.py`, `rates.py` and `checks.py`.
    """

    learning_rate: Any  # a Parameter, a schedule, or one of these for every group

    def __init__(
        self,
        rule: AnyRule,
        params: object,
        *,
        learning_rate: RateLike,
        weight_decay: float = 0.0,
        loss_scale: float = 1.0,
        scalars: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        weight_decay = check_not_negative("weight_decay", weight_decay)
        self._loss_scale = check_positive("loss_scale", loss_scale)
        groups = read_groups(params, weight_decay=weight_decay)
        self._rates = make_rates(learning_rate, groups.num_groups, groups.rates)
        self._has_own_rates = bool(groups.rates)
        self.global_step = Parameter(Tensor(np.zeros(1, np.int32)), name="global_step")
        self._show_rates(is_single=groups.num_groups == 1 and not groups.rates)
        settings = [
            Settings(group=group, weight_decay=decay)
            for group, decay in zip(groups.group_of, groups.weight_decays, strict=True)
        ]
        self._bind(rule, groups.parameters, settings)
        for name, value in (scalars or {}).items():
            setattr(self, name, Parameter(Tensor(np.float32(value)), name=name))
        self._is_built = True

    def _bind(
        self, rule: AnyRule, parameters: ParameterTuple, settings: Sequence[Settings]
    ) -> None:
        self._rule = rule
        self._owner = ""
        self.parameters = parameters
        self._settings = tuple(settings)
        self._slots = tuple(slots_of(rule, p.shape) for p in parameters)
        self._state: dict[str, ParameterTuple] = {}
        # Of every slot, where in its tuple the state of a parameter is.
        self._places: dict[str, dict[int, int]] = {}
        for index, slots in enumerate(self._slots):
            for name in slots.names:
                places = self._places.setdefault(name, {})
                places[index] = len(places)

    # ---- what a manager asks

    @property
    def rule(self) -> AnyRule:
        """The arithmetic of one step."""
        return self._rule

    @property
    def loss_scale(self) -> float:
        """What the loss was multiplied by; gradients are divided by it."""
        return self._loss_scale

    @property
    def num_steps(self) -> int:
        """How many steps have been taken: the value of `global_step`."""
        number: int = self.global_step._array.item()
        return number

    def settings(self, index: int) -> Settings:
        """Return what the rule needs to know of `parameters[index]`."""
        return self._settings[index]

    def slots(self, index: int) -> Slots:
        """Return the names of the state of `parameters[index]`."""
        return self._slots[index]

    def rates(self, step: int) -> tuple[float, ...]:
        """Return the learning rate of every group at the 0-based `step`."""
        return tuple([rate.at(step) for rate in self._rates])

    def advance(self) -> None:
        """Count a step in `global_step`."""
        self.global_step._array[0] += 1

    def adopt(self, owner: str) -> None:
        """Leave the state to `owner`; from now on only that can step the parameters.

        State made before is forgotten: read `allocated_state` first.

        Args:
            owner: who, for the message of the error when it is called directly.

        Raises:
            ManagedOptimizerError: it has an owner already.
        """
        self.check_adoptable()
        self._owner = owner
        for slot in list(self._state):
            delattr(self, slot)
        self._state.clear()

    def check_adoptable(self) -> None:
        """Raise ManagedOptimizerError if the optimizer has an owner already."""
        self._refuse_if_owned("be adopted")

    @property
    def allocated_state(self) -> dict[str, ParameterTuple]:
        """The state by slot, of every parameter that has it; empty if not made yet."""
        return dict(self._state)

    def state_of(self, index: int) -> dict[str, Parameter]:
        """Return the state of `parameters[index]` by slot; empty if not made yet."""
        return {
            slot: members[self._places[slot][index]]
            for slot, members in self._state.items()
            if index in self._places[slot]
        }

    def state_name(self, slot: str, parameter: Parameter) -> str:
        """Return the name under which the state of a parameter is listed and saved."""
        return state_name(slot, parameter)

    # ---- direct use

    def construct(self, gradients: tuple[Tensor, ...]) -> tuple[bool, ...]:
        """Move every parameter by one step.

        Args:
            gradients: one per parameter, in the order of `parameters`. Only read.

        Returns:
            One True per parameter, as MindSpore does.

        Raises:
            GradientError: the gradients do not fit the parameters; nothing has moved.
            ManagedOptimizerError: a manager has adopted the optimizer.
        """
        self._refuse_if_owned("be called")
        arrays = check_gradients(gradients, self.parameters)
        rates = self.rates(self.num_steps)
        self._make_state()
        for index, gradient in enumerate(arrays):
            settings = self._settings[index]
            state = self.state_of(index)
            move_whole(
                self._rule,
                self.parameters[index].asnumpy(),
                gradient,
                {slot: member.asnumpy() for slot, member in state.items()},
                step=self.num_steps + 1,
                learning_rate=rates[settings.group],
                weight_decay=settings.weight_decay,
                gradient_scale=1.0 / self._loss_scale,
                is_adapted=settings.is_adapted,
            )
        self.advance()
        return (True,) * len(arrays)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Put the weights to evaluate with in the place of the weights for a while.

        For most rules both are the same. Afterwards the weights are the bits they were,
        so what is written to them inside is lost.

        Raises:
            ManagedOptimizerError: a manager has adopted the optimizer; it has a method
                of this name.
        """
        self._refuse_if_owned("show the weights to evaluate with")
        kept: list[Array] = []
        if is_evaluated_rule(self._rule) and self.num_steps:
            kept = [parameter.asnumpy().copy() for parameter in self.parameters]
            for index, parameter in enumerate(self.parameters):
                weight = parameter.asnumpy()
                state = {k: v.asnumpy() for k, v in self.state_of(index).items()}
                weight[...] = self._rule.evaluation(weight, state).astype(weight.dtype)
        try:
            yield
        finally:
            for parameter, values in zip(self.parameters, kept, strict=False):
                parameter.asnumpy()[...] = values

    # ---- what it shows as a cell

    def __getattr__(self, name: str) -> Any:
        # The state arrays by their slot, even before they are made.
        if name in self.__dict__.get("_places", ()):
            self._refuse_if_owned(f"show its {name}")
            self._make_state()
            return self._state[name]
        return super().__getattr__(name)

    # Note [state on demand]: every query of this cell, or of a cell around it, reads
    # `_params`; so here the state is made when parameters are asked for. `Cell` itself
    # registers into the dict below.
    @property
    def _params(self) -> dict[str, Parameter]:  # type: ignore[override]  # see the note
        if self.__dict__.get("_is_built") and not self._owner:
            self._make_state()
            for slot, members in self._state.items():
                for index, place in self._places[slot].items():
                    # It may have changed.
                    members[place].name = state_name(slot, self.parameters[index])
        registered: dict[str, Parameter] = self.__dict__["_params"]
        return registered

    def _make_state(self) -> None:
        """Make the state that there is not yet."""
        for slot, places in self._places.items():
            if slot not in self._state:
                self._state[slot] = ParameterTuple(
                    allocate(slot, self._slots[index], self.parameters[index])
                    for index in places
                )
                setattr(self, slot, self._state[slot])

    def _show_rates(self, *, is_single: bool) -> None:
        """Register the learning rates as parameters and cells of this cell."""
        sources = [rate.source for rate in self._rates]
        if is_single:
            self.learning_rate = sources[0]
        elif all(isinstance(source, Parameter) for source in sources):
            self.learning_rate = ParameterTuple(
                [source for source in sources if isinstance(source, Parameter)]
            )
        else:
            for group, source in enumerate(sources):
                if isinstance(source, Parameter | Cell):
                    setattr(self, f"learning_rate_group_{group}", source)
            # Not through `Cell`, which would warn that a tuple hides its members.
            self.__dict__["learning_rate"] = tuple(sources)

    def _take_state(self, other: "Optimizer") -> None:
        """Go on with the state that another optimizer of the same slots has made."""
        self._state.update(other._state)
        for slot, members in self._state.items():
            setattr(self, slot, members)

    def _refuse_if_owned(self, what: str) -> None:
        if self._owner:
            raise ManagedOptimizerError(
                f"{type(self).__name__} cannot {what}: a {self._owner} has adopted it "
                "and keeps its state; step through that"
            )
