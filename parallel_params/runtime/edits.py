"""Flags that a user sets on parameters while a manager executes its plan.

A plan is computed from them, so a step under a plan that they do not fit any more is
refused. Whether they fit is only looked at after one was set.
"""

from collections.abc import Mapping, Sequence

from parallel_params.comm.agree import agree_ok, agree_same
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanError, PlanOutdated
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import COMPILED
from parallel_params.optim.optimizer import Optimizer


class Edits:
    """The flags that a plan was computed from, and what became of them.

    Args:
        parameters: by name; each tells here when one of its flags is set.
        comm: the ranks that hold them.
    """

    def __init__(self, parameters: Mapping[str, Parameter], comm: Communicator) -> None:
        self._parameters, self._comm = parameters, comm
        self.begin()

    def begin(self) -> None:
        """Take the flags as they are now for those of the plan."""
        self._planned = {name: _flags(p) for name, p in self._parameters.items()}
        self._is_noted = False
        self.watch()

    def watch(self) -> None:
        """Let the parameters tell of flags, again after they were bound again."""
        for parameter in self._parameters.values():
            parameter.watch(self._note, self._agree)

    def _agree(self, error: Exception | None, text: str) -> None:
        """Raise on all ranks what one passes; or if they are about different things.

        Collective: all ranks.
        """
        agree_ok(self._comm, error)
        agree_same(self._comm, text, "what is written into the parameters")

    def problem(self) -> PlanOutdated | None:
        """Say which flags are not those of the plan, if any."""
        if not self._is_noted:
            return None
        changed = [
            (name, flag)
            for name, parameter in self._parameters.items()
            for flag, value in _flags(parameter).items()
            if value != self._planned[name][flag]
        ]
        if not changed:
            self._is_noted = False
            return None
        name, flag = changed[0]
        more = f", and {len(changed) - 1} more flags" if len(changed) > 1 else ""
        return PlanOutdated(
            f"{flag} of parameter {name!r} is {getattr(self._parameters[name], flag)} "
            f"now, {self._planned[name][flag]} in the plan{more}. Call manager.replan()"
            " on all ranks before the next step, or set it back"
        )

    def check_movers(self, optimizers: Sequence[Optimizer]) -> None:
        """Refuse parameters that were unfrozen, and that no optimizer moves.

        Raises:
            PlanError: it names the first.
        """
        moved = {id(p) for optimizer in optimizers for p in optimizer.parameters}
        for name, parameter in self._parameters.items():
            is_unfrozen = (
                parameter.requires_grad and not self._planned[name]["requires_grad"]
            )
            if is_unfrozen and id(parameter) not in moved:
                raise PlanError(
                    f"parameter {name!r} requires a gradient now, but no optimizer was "
                    "given it. Pass replan(optimizer=...) one for it; or build the "
                    "first on get_parameters(), which lists frozen ones too"
                )

    def _note(self) -> None:
        self._is_noted = True


def _flags(parameter: Parameter) -> dict[str, object]:
    return {flag: getattr(parameter, flag) for flag in sorted(COMPILED)}
