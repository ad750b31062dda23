"""An axis on which a pass can be run alone, to count what it would send.

What cells send along an axis depends on shapes and never on values, so one grain on one
rank tells it: other ranks' parts are taken to be zeros, and nothing is sent. The values
that come out mean nothing.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from parallel_params.comm.ledger import Ledger
from parallel_params.comm.protocol import (
    DONE,
    EXIT_UNCAUGHT,
    Buffer,
    Communicator,
    Pending,
    Rank,
    ReduceOp,
    SharedMemory,
)
from parallel_params.errors import CommunicationError
from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.rendezvous import Rendezvous
from parallel_params.plan.along import AxisCall, AxisTraffic
from parallel_params.plan.mesh import Mesh


def rehearse(mesh: Mesh, name: str, rank: int = 0) -> tuple[Axis, "Heard"]:
    """Return an axis that sends nothing, and what hears what it would have sent.

    Args:
        mesh: names the axes.
        name: of the axis.
        rank: whose place on it is taken.

    Raises:
        PlanError: the mesh has no such axis, or no such rank.
    """
    size, index = mesh.group_size((name,)), mesh.position(rank, (name,))
    axis = Axis(mesh, name, rank)
    alone = _Alone(index, size, axis.nodes)
    axis.rendezvous = heard = Heard(alone, name, axis.ranks, index)
    return axis, heard


def rehearse_step(
    mesh: Mesh,
    name: str,
    run: Callable[[Axis], object],
    *,
    rank: Rank = 0,
    num_passes: int = 1,
) -> AxisTraffic:
    """Return what cells send along an axis in a step: run one grain, send nothing.

    Args:
        mesh: names the axes, and says which ranks share nodes.
        name: of the axis.
        run: makes the cells on the axis that it is given, and takes them forward and
            backward over one grain; what comes out of them means nothing.
        rank: whose place is taken.
        num_passes: grains that a rank takes in a step, one after the other.

    Returns:
        What `Plan.describe(along=...)` shows beside what the plan sends.

    Raises:
        PlanError: the mesh has no such axis, or no such rank.
    """
    axis, heard = rehearse(mesh, name, rank)
    # Zeros in the place of what others would have sent.
    with np.errstate(all="ignore"), axis.guard():
        run(axis)
    return heard.traffic(num_passes)


class Heard(Rendezvous):
    """A rendezvous that remembers what ranks meet for, and what they send then.

    Attributes:
        ledger: of all collectives along the axis.
    """

    def __init__(
        self, alone: "_Alone", name: str, ranks: Sequence[Rank], index: int
    ) -> None:
        self.ledger, self._alone = Ledger(alone), alone
        super().__init__(self.ledger, name, ranks, index)
        self._axis, self._num_ranks = name, len(ranks)
        self._starts: list[tuple[str, int, int]] = []

    def meet(self, doing: str) -> Communicator:
        """See `Rendezvous.meet`."""
        self._starts.append((doing, *self._sent()))
        return super().meet(doing)

    def end(self) -> Exception | None:
        """See `Rendezvous.end`."""
        self._starts.append(("end of the pass", *self._sent()))
        return super().end()

    def course(self) -> tuple[AxisCall, ...]:
        """Return the collectives so far, in order."""
        ends = [sent for _, *sent in self._starts[1:]] + [self._sent()]
        calls = []
        for (doing, *before), after in zip(self._starts, ends, strict=True):
            operator, _, what = doing.partition(" of (")
            calls.append(
                AxisCall(
                    operator=operator,
                    what=f"({what}" if what else "",
                    bytes_sent=after[0] - before[0],
                    bytes_between_nodes=after[1] - before[1],
                )
            )
        return tuple(calls)

    def traffic(self, num_passes: int) -> AxisTraffic:
        """Return what so many passes like the one so far send."""
        calls, sent = self.ledger.calls, self.ledger.bytes_sent
        return AxisTraffic(
            axis=self._axis,
            num_ranks=self._num_ranks,
            num_passes=num_passes,
            course=self.course(),
            calls={kind: num_passes * number for kind, number in calls.items()},
            bytes_sent={kind: num_passes * number for kind, number in sent.items()},
        )

    def _sent(self) -> tuple[int, int]:
        return self.ledger.total_bytes_sent, self._alone.bytes_between_nodes


class _Alone:
    """A rank whose group says what it says itself, or zeros; see `Communicator`.

    Args:
        rank: its position.
        size: of the group.
        nodes: of its ranks.

    Attributes:
        bytes_between_nodes: that it would have sent to other nodes.
    """

    def __init__(self, rank: Rank, size: int, nodes: Sequence[int]) -> None:
        self.rank, self.size = rank, size
        self._outside = [each for each in range(size) if nodes[each] != nodes[rank]]
        self.bytes_between_nodes = 0
        self.description = f"rank {rank} of {size}, alone"

    def all_gather(self, buffer: Buffer, counts: Sequence[int]) -> None:
        """Give every part of equal length this rank's values, or zeros."""
        first = sum(counts[: self.rank])
        own = np.array(buffer[first : first + counts[self.rank]])
        self.bytes_between_nodes += own.nbytes * len(self._outside)
        buffer.fill(0)
        if len(set(counts)) == 1:
            buffer.reshape(self.size, -1)[:] = own
        else:
            buffer[first : first + len(own)] = own

    def start_all_gather(self, buffer: Buffer, counts: Sequence[int]) -> Pending:
        """Do it at once."""
        self.all_gather(buffer, counts)
        return DONE

    def all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> None:
        """Receive what is for this rank itself, and zeros."""
        outside = sum(send_counts[rank] for rank in self._outside)
        self.bytes_between_nodes += outside * send.itemsize
        recv.fill(0)
        to, source = sum(recv_counts[: self.rank]), sum(send_counts[: self.rank])
        own = send_counts[self.rank]
        recv[to : to + own] = send[source : source + own]

    def start_all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> Pending:
        """Do it at once."""
        self.all_to_all(send, send_counts, recv, recv_counts)
        return DONE

    def barrier(self) -> None:
        """Wait for nobody."""

    def broadcast(self, buffer: Buffer, *, root: Rank = 0) -> None:
        """Keep what is there."""

    def all_reduce(self, buffer: Buffer, *, op: ReduceOp = "sum") -> None:
        """Keep what is there."""

    def reduce_scatter(
        self, buffer: Buffer, counts: Sequence[int], out: Buffer
    ) -> None:
        """Keep the own part."""
        first = sum(counts[: self.rank])
        out[:] = buffer[first : first + counts[self.rank]]

    def all_gather_bytes(self, payload: bytes) -> list[bytes]:
        """Have everybody say the same."""
        return [payload] * self.size

    def group(self, ranks: Sequence[Rank]) -> Communicator:
        """Refuse: an axis opens no groups."""
        raise CommunicationError("a rehearsal opens no groups")

    def node_ranks(self) -> tuple[Rank, ...]:
        """Return this rank."""
        return (self.rank,)

    def share(self, num_bytes: int) -> SharedMemory:
        """Refuse: an axis shares no memory."""
        raise CommunicationError("a rehearsal shares no memory")

    def abort(self, message: str, code: int = EXIT_UNCAUGHT) -> NoReturn:
        """Raise what it says."""
        raise CommunicationError(message)

    def close(self) -> None:
        """Do nothing."""
