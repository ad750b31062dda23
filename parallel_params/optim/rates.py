"""Learning rates: a number, a list of one number per step, or a function of the step.

Numbers live in Parameters, as in MindSpore, so that they can be changed and saved; this
module makes those and reads them. It does not know which parameters a rate is for.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.tensor import Tensor

# What a user may give as a learning rate.
RateLike: TypeAlias = (
    "float | Sequence[float] | Tensor | Cell | Callable[[int], float | Tensor]"
)


class Rate(Protocol):
    """The learning rate of one group."""

    @property
    def source(self) -> object:
        """What shows as `optimizer.learning_rate`: a Parameter or a schedule."""
        ...

    def at(self, step: int) -> float:
        """Return the rate at the 0-based `step`."""
        ...


class Numbers:
    """One rate, or one per step, kept in a Parameter.

    The Parameter is float32, as MindSpore's. As long as it holds the rounded values,
    the exact ones given are used; so 0.1 is 0.1 for weights of float64.

    Args:
        values: one number, or one per step.
        name: of the Parameter.
    """

    def __init__(self, values: float | Sequence[float], *, name: str) -> None:
        exact = np.array(values, np.float64)
        self._exact: list[float] = exact.reshape(-1).tolist()
        rounded = exact.astype(np.float32)
        self._rounded: list[float] = rounded.reshape(-1).tolist()
        self._parameter = Parameter(Tensor(rounded), name=name)
        self._is_constant = exact.ndim == 0
        self._has_warned = False

    @property
    def source(self) -> Parameter:
        """The Parameter; writing it changes the rate."""
        return self._parameter

    @property
    def num_steps(self) -> int | None:
        """For how many steps there is a rate; None for all."""
        return None if self._is_constant else len(self._exact)

    def at(self, step: int) -> float:
        """Return the rate at `step`; past the end of a list 0, with one warning."""
        if self._is_constant:
            step = 0
        elif step >= len(self._exact):
            self._warn_of_the_end(step)
            return 0.0
        value: float = self._parameter._array.item(step)
        return self._exact[step] if value == self._rounded[step] else value

    def _warn_of_the_end(self, step: int) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self._parameter.name} has {len(self._exact)} values, and this is "
                f"step {step} (the first is 0): from here on the rate is 0 and no "
                "weight moves; give one value per step",
                stacklevel=2,
            )


class Schedule:
    """A rate computed from the step.

    Args:
        function: a Cell, called with the step as an int32 Tensor of shape (1,), or any
            callable, called with the step as an int.
        name: of the rate, for messages.
    """

    def __init__(self, function: Callable[[int], float | Tensor], *, name: str) -> None:
        self._function = function
        self._name = name

    @property
    def source(self) -> object:
        """The user's schedule."""
        return self._function

    def at(self, step: int) -> float:
        """Return the rate at `step`.

        Raises:
            TypeError: the schedule returned no number.
            ValueError: it returned a negative or infinite one.
        """
        if isinstance(self._function, Cell):
            value = self._function(Tensor(np.array([step], np.int32)))
        else:
            value = self._function(step)
        try:
            rate = float(value.item() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError):
            raise TypeError(
                f"the schedule {self._name} must return one number, "
                f"and returned {value!r} at step {step}"
            ) from None
        if not 0.0 <= rate < math.inf:
            raise ValueError(
                f"the schedule {self._name} returned {rate} at step {step}; "
                "a learning rate is 0 or more, and finite"
            )
        return rate


def read_rate(value: object, *, name: str) -> "float | list[float] | Schedule":
    """Check what a user gave as a learning rate, and say which of the kinds it is.

    Raises:
        TypeError: it is None, or of a type that is none of the kinds.
        ValueError: it is text, negative, not finite, or a tensor of two dims or more.
    """
    if isinstance(value, Tensor | np.ndarray):
        return _read_tensor(np.asarray(value), name)
    if isinstance(value, int | float):
        return _check_rate(value, name)
    if isinstance(value, list | tuple):
        return [_check_rate(item, name) for item in value]
    if callable(value):
        return Schedule(value, name=name)
    raise (ValueError if isinstance(value, str) else TypeError)(
        f"{name} must be a number, a list or 1-d tensor with one number per step, or a "
        f"schedule, not {value!r}"
    )


def _read_tensor(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", name: str
) -> float | list[float]:
    if values.ndim > 1:
        raise ValueError(
            f"{name} must be a tensor of 0 dims (one rate) or 1 (one per step), "
            f"not of shape {values.shape}"
        )
    numbers = [_check_rate(item, name) for item in values.reshape(-1).tolist()]
    return numbers if values.ndim else numbers[0]


def _check_rate(value: object, name: str) -> float:
    # True is a rate of 1.0 in MindSpore.
    if not isinstance(value, int | float):
        raise TypeError(f"{name} must hold numbers, not {value!r}")
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} must be 0 or more, and finite, not {value!r}")
    return float(value)


def make_rates(
    default: object, num_groups: int, own: Mapping[int, object]
) -> tuple[Rate, ...]:
    """Return the rate of each group; groups without their own share one.

    One list anywhere makes a list of every number: all of them end at the same step.

    Args:
        default: the rate given for all groups.
        num_groups: how many there are.
        own: the rates given for single groups.

    Raises:
        TypeError, ValueError: as `read_rate`; also lists of different lengths.
    """
    common = read_rate(default, name="learning_rate")
    read = {
        group: read_rate(value, name=f"learning_rate_group_{group}")
        for group, value in own.items()
    }
    used = [read.get(group, common) for group in range(num_groups)]
    lengths = sorted({len(value) for value in used if isinstance(value, list)})
    if len(lengths) > 1:
        raise ValueError(
            f"the groups' lists of learning rates have {lengths} values; "
            "give all of them one length, a value per step"
        )

    def finish(value: float | list[float] | Schedule, name: str) -> Rate:
        if isinstance(value, Schedule):
            return value
        if lengths and not isinstance(value, list):
            value = [value] * lengths[0]
        return Numbers(value, name=name)

    shared = finish(common, "learning_rate")
    return tuple(
        finish(read[group], f"learning_rate_group_{group}") if group in read else shared
        for group in range(num_groups)
    )
