"""An axis on which a pass can be run alone, to count what it would send.

What cells send along an axis depends on shapes and never on values, so one grain on one
rank tells it: other ranks' parts are taken to be zeros, and nothing is sent. The values
that come out mean nothing.
"""

from collections.abc import Sequence
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
from parallel_params.plan.along import AxisCall
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
    ledger = Ledger(_Alone(index, size))
    axis.rendezvous = heard = Heard(ledger, name, axis.ranks, index)
    return axis, heard


class Heard(Rendezvous):
    """A rendezvous that remembers what ranks meet for, and what they send then.

    Attributes:
        ledger: of all collectives along the axis.
    """

    def __init__(
        self, ledger: Ledger, name: str, ranks: Sequence[Rank], index: int
    ) -> None:
        super().__init__(ledger, name, ranks, index)
        self.ledger = ledger
        self._starts: list[tuple[str, int]] = []

    def meet(self, doing: str) -> Communicator:
        """See `Rendezvous.meet`."""
        self._starts.append((doing, self.ledger.total_bytes_sent))
        return super().meet(doing)

    def end(self) -> Exception | None:
        """See `Rendezvous.end`."""
        self._starts.append(("end of the pass", self.ledger.total_bytes_sent))
        return super().end()

    def course(self) -> tuple[AxisCall, ...]:
        """Return the collectives so far, in order."""
        ends = [start for _, start in self._starts[1:]] + [self.ledger.total_bytes_sent]
        calls = []
        for (doing, start), end in zip(self._starts, ends, strict=True):
            operator, _, what = doing.partition(" of (")
            calls.append(
                AxisCall(
                    operator=operator,
                    what=f"({what}" if what else "",
                    bytes_sent=end - start,
                )
            )
        return tuple(calls)


class _Alone:
    """A rank whose group says what it says itself, or zeros; see `Communicator`.

    Args:
        rank: its position.
        size: of the group.
    """

    def __init__(self, rank: Rank, size: int) -> None:
        self.rank, self.size = rank, size
        self.description = f"rank {rank} of {size}, alone"

    def all_gather(self, buffer: Buffer, counts: Sequence[int]) -> None:
        """Give every part of equal length this rank's values, or zeros."""
        first = sum(counts[: self.rank])
        own = np.array(buffer[first : first + counts[self.rank]])
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
