"""The collectives this package needs, as an interface over any kind of world.

Implemented by `comm/mpi.py` (processes under MPI) and `comm/local.py` (threads of one
process); one conformance suite in `tests/comm/` holds both to the words below. What a
collective costs is counted in `comm/ledger.py`, not here.
"""

from collections.abc import Sequence
from typing import Literal, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rank: TypeAlias = int
ReduceOp: TypeAlias = Literal["sum", "min", "max"]
Buffer: TypeAlias = NDArray[np.generic]

# Not one of the codes that a program is likely to use itself: sysexits.h calls it
# EX_SOFTWARE. A job that ends by an uncaught exception ends with it.
EXIT_UNCAUGHT = 70


class Pending(Protocol):
    """Messages under way; their buffers belong to them until `wait` has returned."""

    def wait(self) -> None:
        """Wait until all that this rank receives is there; at once the second time.

        Each rank for itself, though others may have to start theirs first.
        """
        ...


class _Done:
    """A `Pending` of what is complete."""

    def wait(self) -> None:
        """See `Pending.wait`."""


DONE: Pending = _Done()


class SharedMemory(Protocol):
    """Memory of the ranks of one machine, a part from each, which all read and write.

    What a rank writes is for others to read after the next `hand_over`, and not before.
    """

    def part(self, rank: Rank) -> NDArray[np.uint8]:
        """Return the part that came from `rank`, writeable, from the start of a page.

        Returns:
            [bytes of that rank] a view of the memory itself.
        """
        ...

    def hand_over(self) -> None:
        """Let all ranks see what any of them has written so far.

        Collective: every rank of the communicator that shares.
        """
        ...

    def drop(self, rank: Rank, first: int, last: int) -> None:
        """Give the pages wholly inside some bytes back to the system, for all ranks.

        The addresses stay. The bytes may read as anything until they are written
        again, which takes pages again. Where the system cannot do it, nothing happens.

        Args:
            rank: whose part.
            first: where the bytes start in it.
            last: where they end.
        """
        ...

    def close(self) -> None:
        """Give the memory back, or, while views live on any rank, when all have ended.

        A view may be read and written as long as the process lives; others see no more
        of that. The communicator may be closed before or after.

        Collective: every rank of the communicator that shares.
        """
        ...


class Communicator(Protocol):
    """A group of ranks that issue the same collectives in the same order.

    Every buffer is C-contiguous; one that is received into is writeable. A buffer that
    cannot be sent raises `CommunicationError` before anything is sent. Parts of zero
    elements are ordinary. A rank passes its own number in *this* communicator.
    """

    @property
    def rank(self) -> Rank:
        """This rank's position in the communicator, 0 <= rank < size."""
        ...

    @property
    def size(self) -> int:
        """The number of ranks."""
        ...

    @property
    def description(self) -> str:
        """What carries the messages: "4 threads" or "MPICH 5.0.2, 4 ranks", say."""
        ...

    def barrier(self) -> None:
        """Wait until every rank has called.

        Collective: every rank.
        """
        ...

    def broadcast(self, buffer: Buffer, *, root: Rank = 0) -> None:
        """Fill `buffer` on every rank with root's, byte for byte.

        Args:
            buffer: any shape and dtype, the same number of bytes on every rank.
            root: whose buffer is sent.

        Collective: every rank, with the same root.
        """
        ...

    def all_gather(self, buffer: Buffer, counts: Sequence[int]) -> None:
        """Complete `buffer` in place from the part that each rank has filled.

        Args:
            buffer: [sum(counts)] any dtype; rank r's part starts at `sum(counts[:r])`
                and is already filled on rank r.
            counts: elements of each rank's part.

        Collective: every rank, with the same counts.
        """
        ...

    def all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> None:
        """Send the r-th segment of `send` to rank r; `recv` holds the r-th from rank r.

        Args:
            send: [sum(send_counts)] consecutive segments, any dtype.
            send_counts: elements for each rank.
            recv: [sum(recv_counts)] of the same dtype.
            recv_counts: elements from each rank.

        Collective: every rank; `recv_counts[s]` here is `send_counts[r]` on rank s.
        """
        ...

    def start_all_gather(self, buffer: Buffer, counts: Sequence[int]) -> Pending:
        """Start an `all_gather`; `buffer` is complete when the result was waited for.

        Collective: every rank, with the same counts, in the same place among all that
        the ranks issue. Waiting is each rank's own affair, in any order, but before the
        communicator is closed.
        """
        ...

    def start_all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> Pending:
        """Start an `all_to_all`; `recv` is filled when the result was waited for.

        Collective: as `start_all_gather`.
        """
        ...

    def all_reduce(self, buffer: Buffer, *, op: ReduceOp = "sum") -> None:
        """Combine `buffer` over the ranks, element by element, in place.

        The order of a sum is the implementation's: repeatable for one world size, other
        bits at another. Canonical reduction uses `all_to_all` and its own tree instead.

        Args:
            buffer: any shape; float32, float64 or an integer dtype.
            op: what combines two elements.

        Collective: every rank, with the same shape, dtype and op.
        """
        ...

    def reduce_scatter(
        self, buffer: Buffer, counts: Sequence[int], out: Buffer
    ) -> None:
        """Sum `buffer` over the ranks and keep this rank's part of the result.

        Args:
            buffer: [sum(counts)] float32, float64 or an integer dtype; left as it is.
            counts: elements of each rank's part.
            out: [counts[rank]] of the same dtype.

        Collective: every rank, with the same counts and dtype.
        """
        ...

    def all_gather_bytes(self, payload: bytes) -> list[bytes]:
        """Give every rank the payload of each, of any lengths, in rank order.

        Collective: every rank.
        """
        ...

    def group(self, ranks: Sequence[Rank]) -> "Communicator":
        """Make a communicator of some of these ranks; its rank i is `ranks[i]`.

        Collective: exactly the ranks named, each with the same `ranks`.
        """
        ...

    def node_ranks(self) -> tuple[Rank, ...]:
        """Return those of this communicator's ranks that can share memory with this.

        Returns:
            Ascending, this rank among them.

        Collective: every rank, the first time; afterwards it is known.
        """
        ...

    def share(self, num_bytes: int) -> SharedMemory:
        """Allocate memory that all ranks see, some of it from each; its bytes are 0.

        Args:
            num_bytes: of this rank's part; may be 0, may differ between ranks.

        Raises:
            CommunicationError: on every rank, if there is no such memory: the ranks are
                on several machines, or there is too little room for it.

        Collective: every rank.
        """
        ...

    def abort(self, message: str, code: int = EXIT_UNCAUGHT) -> NoReturn:
        """Show `message` and end the whole world, not only this rank."""
        ...

    def close(self) -> None:
        """Give back what the communicator holds; it must not be used afterwards.

        Collective: every rank.
        """
        ...
