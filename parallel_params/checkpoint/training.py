"""The part of a training state that is no tensor: counts, loss scale, rates, seeds.

Everything here is small, equal on all ranks, and JSON. The position in schedules and
random streams follows from the number of steps.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from parallel_params.errors import CheckpointError, CheckpointMismatch, PlanError
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.record import Record
from parallel_params.runtime.course import Course
from parallel_params.tensor.random import get_position, set_position

_FIELDS = (
    "num_steps",
    "num_skipped",
    "num_good",
    "loss_scale",
    "starts",
    "random",
    "optimizers",
)


def capture(course: Course) -> dict[str, object]:
    """Return where a course is, as JSON values."""
    seed, num_drawn = get_position()
    return {
        "num_steps": course.num_steps,
        "num_skipped": course.num_skipped,
        "num_good": course.num_good,
        "loss_scale": course.loss_scale,
        "starts": dict(course.starts),
        "random": {"seed": seed, "num_drawn": num_drawn},
        "optimizers": [
            {
                "kind": type(optimizer).__name__,
                "numbers": {
                    name: float(parameter.asnumpy().reshape(-1)[0])
                    for name, parameter in _numbers(optimizer).items()
                },
            }
            for optimizer in course.optimizers
        ],
    }


class Restored:
    """A captured state that was checked and fits a course.

    Args:
        training: as `capture` gave it, read back.
        optimizers: of the course that will go on.
        where: the name of the checkpoint in errors.

    Raises:
        CheckpointError: it is not what `capture` gives.
        CheckpointMismatch: it is of another number of optimizers, or of weights alone.

    Attributes:
        notes: what will be otherwise than the caller built it.
    """

    def __init__(
        self,
        training: Mapping[str, object],
        optimizers: Sequence[Optimizer],
        where: str,
    ) -> None:
        self.notes: list[str] = []
        if not training:
            raise CheckpointMismatch(
                f"{where} has weights and nothing to go on with, as what was imported; "
                "load it with weights_only=True"
            )
        try:
            record = Record(dict(training), f"{where}: training", _FIELDS)
            self._counts = {
                key: _count(record, key)
                for key in ("num_steps", "num_skipped", "num_good")
            }
            self._loss_scale = record.real("loss_scale")
            starts = record.mapping("starts")
            each = Record(starts, f"{where}: training.starts", tuple(starts))
            most = self._counts["num_steps"]
            self._starts = {name: _at_most(each, name, most) for name in starts}
            position = record.record("random", ("seed", "num_drawn"))
            self._position = _count(position, "seed"), _count(position, "num_drawn")
            saved = record.records("optimizers", ("kind", "numbers"))
            self._numbers = [(o.text("kind"), _reals(o, "numbers")) for o in saved]
        except PlanError as error:
            raise CheckpointError(str(error)) from error
        if len(self._numbers) != len(optimizers):
            raise CheckpointMismatch(
                f"{where} is of {len(self._numbers)} optimizers, and here are "
                f"{len(optimizers)}; load weights alone, or build what was saved"
            )
        for (kind, numbers), optimizer in zip(self._numbers, optimizers, strict=True):
            self._compare(kind, numbers, optimizer)

    def apply(self, course: Course, anew: Iterable[str] = ()) -> None:
        """Let a course go on from here.

        Args:
            course: that will go on.
            anew: parameters whose optimizer state begins now.
        """
        starts = self._starts | dict.fromkeys(anew, self._counts["num_steps"])
        course.restore(
            **self._counts, loss_scale=float(self._loss_scale), starts=starts
        )
        for (_, numbers), optimizer in zip(
            self._numbers, course.optimizers, strict=True
        ):
            for name, parameter in _numbers(optimizer).items():
                if name in numbers:
                    parameter.asnumpy()[...] = numbers[name]
        set_position(*self._position)

    def _compare(
        self, kind: str, numbers: Mapping[str, float], optimizer: Optimizer
    ) -> None:
        now = type(optimizer).__name__
        if now != kind:
            self.notes.append(f"the optimizer was {kind} and is {now}")
        for name, parameter in _numbers(optimizer).items():
            found = float(parameter.asnumpy().reshape(-1)[0])
            saved = numbers.get(name, found)
            if name.startswith("learning_rate") and saved != found:
                self.notes.append(f"{name} is {saved:g} again, as saved, not {found:g}")


def _numbers(optimizer: Optimizer) -> dict[str, Parameter]:
    """Return what an optimizer keeps in Parameters of one number, by name.

    A list of one rate per step is the program's: only the place in it is saved.
    """
    own = {id(parameter) for parameter in optimizer.parameters}
    return {
        parameter.name: parameter
        for parameter in optimizer.get_parameters()
        if id(parameter) not in own and np.size(parameter.asnumpy()) == 1
    }


def _count(record: Record, key: str) -> int:
    value = record.number(key)
    if value < 0:
        raise record.error(key, f"expected a number from 0, got {str(value)[:40]}")
    return value


def _at_most(record: Record, key: str, most: int) -> int:
    value = record.number(key)
    if value > most:
        raise record.error(key, f"expected at most {most} steps, got {value}")
    return value


def _reals(record: Record, key: str) -> dict[str, float]:
    values = record.mapping(key)
    inner = Record(values, key, tuple(values))
    return {name: inner.real(name) for name in values}
