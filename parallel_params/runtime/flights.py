"""Messages under way between nodes: so many at a time, each with memory of its own.

While one travels, the rank computes: it sums what the last one brought, or goes on with
its backward pass. Who starts another one first waits for the oldest. All ranks start
them in one order; when one lands is each rank's own affair.
"""

from collections.abc import Callable

import numpy as np

from parallel_params.comm.protocol import Pending
from parallel_params.plan.memory import NUM_FLIGHTS
from parallel_params.tensor.tape import Array


class Flight:
    """One message at a time, and the memory that it uses.

    Args:
        num_bytes: what the message that needs most needs.
    """

    def __init__(self, num_bytes: int) -> None:
        self._memory = np.empty(num_bytes, np.uint8)
        self._pending: Pending | None = None
        self._then: Callable[[], None] | None = None

    def take(self, dtype: "np.dtype[np.generic]", *numels: int) -> list[Array]:
        """Return neighbouring arrays of these lengths; contents are undefined."""
        arrays: list[Array] = []
        first = 0
        for numel in numels:
            last = first + numel * dtype.itemsize
            arrays.append(self._memory[first:last].view(dtype))
            first = last
        return arrays

    def depart(self, pending: Pending, then: Callable[[], None] | None = None) -> None:
        """Take charge of a message that has been started.

        Args:
            pending: the message.
            then: to be called once it is there; communicates nothing.
        """
        self._pending, self._then = pending, then

    def land(self) -> None:
        """Wait for the message, if one is under way, and do what is due then."""
        pending, then = self._pending, self._then
        self._pending = self._then = None
        if pending is not None:
            pending.wait()
        if then is not None:
            then()


class Flights:
    """The flights of a rank, used in turn.

    Args:
        num_bytes: memory of each.
    """

    def __init__(self, num_bytes: int) -> None:
        self._flights = tuple(Flight(num_bytes) for _ in range(NUM_FLIGHTS))
        self._next = 0
        self._is_empty = True  # nothing has been claimed since all have landed

    def claim(self) -> Flight:
        """Return the flight that comes next, landed."""
        self._is_empty = False
        flight = self._flights[self._next]
        self._next = (self._next + 1) % NUM_FLIGHTS
        flight.land()
        return flight

    def land_all(self) -> None:
        """Land all, the oldest first."""
        if self._is_empty:
            return
        for _ in self._flights:
            self.claim()
        self._is_empty = True
