"""Messages under way between nodes: so many at a time, each with its own memory if any.

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
    """The flights of a rank, used in turn: those with memory, and those without.

    What is received where it belongs needs no memory, and goes beside what does: a sum
    need not be there before the one before it has gone round.

    Args:
        num_bytes: memory of each that has some.
    """

    def __init__(self, num_bytes: int) -> None:
        sizes = [num_bytes] * NUM_FLIGHTS + [0] * NUM_FLIGHTS
        self._flights = tuple(Flight(size) for size in sizes)
        self._next = {False: 0, True: NUM_FLIGHTS}
        self._is_empty = True  # nothing has been claimed since all have landed

    def claim(self, *, is_bare: bool = False) -> Flight:
        """Return the flight that comes next, landed.

        Args:
            is_bare: whether it may be without memory.
        """
        self._is_empty = False
        place = self._next[is_bare]
        self._next[is_bare] = place - place % NUM_FLIGHTS + (place + 1) % NUM_FLIGHTS
        flight = self._flights[place]
        flight.land()
        return flight

    def land_all(self) -> None:
        """Land all, the oldest of each kind first."""
        if self._is_empty:
            return
        for is_bare in (False, True):
            for _ in range(NUM_FLIGHTS):
                self.claim(is_bare=is_bare)
        self._is_empty = True
