"""A rank that exchanges gradients of one buffer in several ways, in turn.

The window's ways are those of the runtime on a plan with one parameter, without an
optimizer: hand over the gradients that every rank has written, sum the own interval of
all of them, hand over the weights.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

import parallel_params as pp
from benchmarks.measure import environment
from parallel_params.comm.protocol import Communicator
from parallel_params.runtime.flights import Flights
from parallel_params.runtime.opening import open_node
from parallel_params.runtime.reducer import Finding, Reducer
from parallel_params.runtime.summing import Scratch

STEP, SUM, ALLREDUCE, MEMCPY = "window", "window, all see it", "Allreduce", "memcpy"
Times = dict[str, list[float]]


class WindowExchange:
    """Sums a float32 buffer of every rank of a node through its windows.

    Args:
        comm: two ranks or more, all on one node.
        numel: of the buffer.

    Attributes:
        gradient: [numel] this rank's summand.
        own: the interval that this rank sums.
        weight: [numel] the memory that all ranks see.

    Collective: all ranks.
    """

    def __init__(self, comm: Communicator, numel: int) -> None:
        plan = pp.make_plan(
            [pp.ParamSpec("buffer", (numel,), state_slots=())],
            pp.Mesh(data=comm.size, ranks_per_node=comm.size),
            pp.Policy(
                level=pp.Level.STATE, transport="window", shard_threshold_bytes=0
            ),
        )
        _, self._groups, (role,), self._node, _ = open_node(plan, comm)
        self._peers = self._node.gradients(role)
        self.weight, self.gradient = self._node.weight(role), self._peers[comm.rank]
        self.own = role.own.as_slice()
        self._reducers = [
            Reducer(
                role,
                Flights(0),
                dtype=self.weight.dtype,
                wire=None,
                is_canonical=True,
                is_watched=False,
                scratch=Scratch(),
            )
            for _ in range(2)
        ]

    def run_step(self) -> None:
        """Do what a step does: leave the sum of the own interval in the own gradient.

        Collective: all ranks.
        """
        self._node.hand_over_gradients()
        self._reducers[0].start_reduce(
            self._peers, self.gradient[self.own], then=_go_on
        )
        self._node.hand_over_weights()

    def run_sum(self) -> None:
        """Let all ranks see the whole sum, as after Allreduce.

        Collective: all ranks.
        """
        self._node.hand_over_gradients()
        self._reducers[1].start_reduce(self._peers, self.weight[self.own], then=_go_on)
        self._node.hand_over_weights()

    def close(self) -> None:
        """Give the windows back.

        Collective: all ranks.
        """
        del self.gradient, self.weight, self._peers, self._reducers
        self._node.close()
        self._groups.close()


def _go_on(_: Sequence[Finding]) -> None:
    """Leave it at the sum."""


class Exchange:
    """One rank with a buffer for each way."""

    def __init__(self) -> None:
        self._comm = pp.init()
        self.rank = self._comm.rank

    def environment(self) -> str:
        """Name what the figures depend on."""
        return f"{self._comm.description}, {environment()}"

    def run(self, num_bytes: int, num_rounds: int) -> Times:
        """Time all ways in turn on one size; return seconds by way and round.

        Collective: all ranks.
        """
        numel = num_bytes // 4
        window = WindowExchange(self._comm, numel)
        buffer, copy = np.empty(numel, np.float32), np.zeros(numel, np.float32)
        ways: dict[str, Callable[[], None]] = {
            STEP: window.run_step,
            SUM: window.run_sum,
            ALLREDUCE: lambda: self._comm.all_reduce(buffer),
            MEMCPY: lambda: np.copyto(copy, buffer),
        }
        self._check(window, buffer, ways)
        times: Times = {name: [] for name in ways}
        names = list(ways)
        for index in range(num_rounds):
            first = index % len(names)
            for name in names[first:] + names[:first]:
                self._comm.barrier()
                start = time.perf_counter()
                ways[name]()
                times[name].append(time.perf_counter() - start)
        self._comm.barrier()
        window.close()
        return times

    def _check(
        self,
        window: WindowExchange,
        buffer: np.ndarray,
        ways: dict[str, Callable[[], None]],
    ) -> None:
        """Run all ways once, compare the sums, and leave zeros: they stay finite."""
        ramp = np.arange(buffer.size, dtype=np.float32) % 1024
        for target in (window.gradient, buffer):
            np.multiply(ramp, np.float32(self.rank + 1), target)
        # The first way spoils the summands of the second.
        for name in (SUM, STEP, ALLREDUCE, MEMCPY):
            ways[name]()
        own = window.own
        for got, want in ((window.weight, buffer), (window.gradient[own], buffer[own])):
            if not np.array_equal(got, want):
                raise AssertionError("the window's sums are not those of Allreduce")
        self._comm.barrier()
        window.gradient[...] = 0
        buffer[...] = 0
