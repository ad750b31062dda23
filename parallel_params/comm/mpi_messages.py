"""Messages of any length over MPI, whose calls take only so many elements each.

Both forms of each, the one that waits and the one that does not, are made of the same
pieces here. What MPI can do with any length by itself is in `comm/mpi.py`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from parallel_params.comm.buffers import as_units, dense, offsets_of
from parallel_params.comm.mpi_library import MPI, library
from parallel_params.comm.protocol import Buffer, Rank

_SEGMENT_TAG = 1

PIECE_BYTES = 1 << 20


# Note [pieces]
# MPICH's UCX moves a large message over TCP after a handshake, which queues behind the
# data of the message before: with two of 4 MB under way each way a cable of 1 Gbit/s
# stood still for a third of the time. Pieces of 1 MiB, all started at once, keep it as
# full as plain sockets do. Open MPI has no such trouble, and moves messages of two
# ranks that are not one collective in one direction at a time, see below.
def piece_count(max_count: int, item_bytes: int) -> int:
    """Return how many items a message may carry that others follow."""
    if library().name == "Open MPI":
        return max_count
    return min(max_count, PIECE_BYTES // item_bytes)


# Note [equal addresses]
# Open MPI, where it does not wait, takes one address to send from and to receive at for
# MPI_IN_PLACE, and hangs. NumPy lets an empty part of an array lie where that starts.
def apart(units: Buffer) -> Buffer:
    """Return the units, or, if there are none, an address that nobody else has."""
    return units if units.size else np.empty(1, units.dtype)


class MPIPending:
    """A `Pending` of MPI's requests, which keep their buffers alive.

    Args:
        requests: to wait for.
        finish: what is to be done afterwards.
    """

    def __init__(
        self, requests: list[MPI.Request], finish: Callable[[], None] | None = None
    ) -> None:
        self._requests = requests
        self._finish = finish

    def wait(self) -> None:
        """See `Pending.wait`."""
        MPI.Request.Waitall(self._requests)
        self._requests = []
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()


# Note [large segments]
# Only the two ranks of a segment know that it is large, so no decision here may depend
# on more than one segment: those above the limit go by messages of their own, piece by
# piece. What is left fits into one call when it lies densely. Several exchanges may be
# under way: MPI keeps the order of messages between two ranks, which start them in the
# same order.
class Exchange:
    """The pieces of one `all_to_all`."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
        *,
        max_count: int,
    ) -> None:
        self._comm = comm
        sent, per_element = as_units(send)
        self._piece = piece_count(max_count, sent.itemsize)
        self._limit = min(self._piece, max_count // comm.Get_size())
        self._received, _ = as_units(recv)
        send_sizes = [count * per_element for count in send_counts]
        self._recv_sizes = [count * per_element for count in recv_counts]
        self._large = self._start_large(comm.Isend, sent, send_sizes)
        self._large += self._start_large(comm.Irecv, self._received, self._recv_sizes)
        send_parts = self._small(send_sizes)
        self._recv_parts = self._small(self._recv_sizes)
        dense_send, send_starts = dense(sent, send_sizes, send_parts)
        self._dense, self._starts = dense(
            self._received, self._recv_sizes, self._recv_parts
        )
        self._send = [apart(dense_send), (send_parts, send_starts[:-1])]
        self._recv = [apart(self._dense), (self._recv_parts, self._starts[:-1])]

    def run(self) -> None:
        """Exchange and wait."""
        self._comm.Alltoallv(self._send, self._recv)
        MPIPending(self._large, self._spread).wait()

    def start(self) -> MPIPending:
        """Exchange; the result waits."""
        request = self._comm.Ialltoallv(self._send, self._recv)
        return MPIPending([request, *self._large], self._spread)

    def _small(self, sizes: Sequence[int]) -> list[int]:
        return [size if size <= self._limit else 0 for size in sizes]

    def _start_large(
        self,
        start: Callable[[Buffer, Rank, int], MPI.Request],
        units: Buffer,
        sizes: Sequence[int],
    ) -> list[MPI.Request]:
        starts = offsets_of(sizes)
        return [
            start(units[first : min(first + self._piece, end)], rank, _SEGMENT_TAG)
            for rank, end in enumerate(starts[1:])
            if sizes[rank] > self._limit
            for first in range(starts[rank], end, self._piece)
        ]

    def _spread(self) -> None:
        if self._dense is self._received:
            return
        places = offsets_of(self._recv_sizes)
        for rank, size in enumerate(self._recv_parts):
            part = self._dense[self._starts[rank] : self._starts[rank] + size]
            self._received[places[rank] : places[rank] + size] = part


def start_all_gather(
    comm: MPI.Intracomm, buffer: Buffer, counts: Sequence[int], *, max_count: int
) -> MPIPending:
    """Start an all_gather of checked buffers."""
    units, per_element = as_units(buffer)
    sizes = [count * per_element for count in counts]
    starts = offsets_of(sizes)
    if starts[-1] <= max_count and library().name == "Open MPI":
        return _start_gather_by_exchange(comm, units, sizes, starts)
    if starts[-1] <= max_count:
        piece = piece_count(max_count, units.itemsize)
        return MPIPending(
            [
                comm.Iallgatherv(
                    MPI.IN_PLACE, [units, _piece(sizes, starts, first, piece)]
                )
                for first in range(0, max(1, *sizes), piece)
            ]
        )
    return MPIPending(
        [
            comm.Ibcast(units[first : min(first + max_count, end)], rank)
            for rank, end in enumerate(starts[1:])
            for first in range(starts[rank], end, max_count)
        ]
    )


def _piece(
    sizes: Sequence[int], starts: Sequence[int], first: int, piece: int
) -> tuple[list[int], list[int]]:
    """Return how much of every rank's part is in a piece of it, and where that lies."""
    counts = [max(0, min(size - first, piece)) for size in sizes]
    places = [
        start + min(first, size) for start, size in zip(starts, sizes, strict=False)
    ]
    return counts, places


# Note [Open MPI's Iallgatherv]
# Over TCP between two hosts it uses one direction of the cable at a time, as all large
# messages do there that two ranks send each other: 329 ms for 20 MB at 1 Gbit/s, where
# Ialltoallv takes 175 ms. (MPICH takes 184 ms and 208 ms.)
def _start_gather_by_exchange(
    comm: MPI.Intracomm, units: Buffer, sizes: Sequence[int], starts: Sequence[int]
) -> MPIPending:
    rank, num_ranks = comm.Get_rank(), len(sizes)
    own = units[starts[rank] : starts[rank + 1]]
    base = 0 if starts[rank] else starts[rank + 1]
    sent = [0 if each == rank else own.size for each in range(num_ranks)]
    received = [0 if each == rank else size for each, size in enumerate(sizes)]
    places = [max(0, start - base) for start in starts[:-1]]
    request = comm.Ialltoallv(
        [apart(own), (sent, [0] * num_ranks)],
        [apart(units[base:]), (received, places)],
    )
    return MPIPending([request])
