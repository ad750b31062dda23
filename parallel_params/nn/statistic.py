"""`Statistic`: state of a model that follows what the forward pass sees.

The moving mean of a batch normalisation is one. It is no weight: no gradient reaches it
and no optimizer moves it. The layer tells it what it saw (`observe`), and it moves

    value <- momentum * value + (1 - momentum) * mean of what was observed

at once if nobody collects. Whoever trains on several slices of a batch, on several
ranks, collects what was observed on each (`collecting`), takes the mean over all of
them, and moves it once per step: then every rank moves it by the same numbers. The mean
is weighted by how many elements an observation was taken over.
"""

import threading
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.tape import Array


class Statistic(Parameter):
    """A parameter that is moved by observations and never trained.

    Args:
        default_input: as for `Parameter`.
        name: as for `Parameter`.
        momentum: what is kept of the old value at a move, in [0, 1].

    Raises:
        ValueError: the momentum lies outside.
    """

    momentum: float = 0.9

    def __init__(
        self, default_input: object, name: str | None = None, momentum: float = 0.9
    ) -> None:
        super().__init__(default_input, name, requires_grad=False)
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"a momentum lies in [0, 1], not at {momentum}")
        self.momentum = float(momentum)

    def observe(self, value: Array, count: int) -> None:
        """Take part of the move of this step, or move at once if nobody collects.

        Outside of a step, a statistic that a manager holds stays as it is: its other
        copies would not hear of it.

        Args:
            value: of the parameter's shape.
            count: of how many elements `value` is a statistic.
        """
        collector = _local.collector
        if collector is not None:
            collector.add(self, value, count)
        elif not self.is_managed:
            self.set_data(Parameter(self.moved(self._array, value)))

    def moved(self, old: Array, value: Array) -> Array:
        """Return what `old`, any part of the values, is moved to by `value`."""
        kept = self.momentum
        new = kept * old.astype(np.float64) + (1.0 - kept) * value
        return new.astype(old.dtype)


class Observations:
    """What was observed of each statistic: sums, weighted by counts, and the counts."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Array, int]] = {}
        self._seen: list[Statistic] = []

    def add(self, statistic: Statistic, value: Array, count: int) -> None:
        """Add one observation."""
        if id(statistic) not in self._found:
            self._seen.append(statistic)
        total, known = self._found.get(id(statistic), (0.0, 0))
        now = np.asarray(value, np.float64) * count
        self._found[id(statistic)] = total + now, known + count

    def __iter__(self) -> Iterator[Statistic]:
        return iter(self._seen)

    def of(self, statistic: Statistic) -> tuple[Array, int] | None:
        """Return the weighted sum and the count of a statistic; None if unseen."""
        return self._found.get(id(statistic))


class _Local(threading.local):
    """Who collects on this thread: ranks of a thread world are threads."""

    def __init__(self) -> None:
        self.collector: Observations | None = None


_local = _Local()


class collecting:  # noqa: N801 - used like a function: `with collecting() as seen:`
    """Gather what is observed in this block, on this thread, and move nothing.

    What is gathered and not used is forgotten: so a forward pass that is run once more
    leaves no second trace.
    """

    def __enter__(self) -> Observations:
        self._outer = _local.collector
        _local.collector = seen = Observations()
        return seen

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _local.collector = self._outer
