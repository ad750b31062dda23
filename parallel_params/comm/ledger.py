"""Counts the calls and bytes of a communicator and remembers the last of them.

A wrapper: it sends nothing and changes nothing. Bytes are what one rank *sends*, by a
closed formula for each kind that does not depend on how the library does it, so that
a plan can announce the same numbers without sending anything. What is only started
counts as its blocking kind, once it was waited for.
"""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.comm.protocol import (
    EXIT_UNCAUGHT,
    Buffer,
    Communicator,
    Pending,
    Rank,
    ReduceOp,
    SharedMemory,
)
from parallel_params.comm.shared_files import FileOpener, HasFiles

CollectiveKind: TypeAlias = Literal[
    "barrier",
    "broadcast",
    "all_gather",
    "all_to_all",
    "all_reduce",
    "reduce_scatter",
    "all_gather_bytes",
    "hand_over",
]

_NUM_RECENT = 64


@dataclass(slots=True)
class Entry:
    """One collective as this rank issued it.

    Attributes:
        ordinal: how many came before it, on the communicator and its groups.
        kind: which collective.
        bytes_sent: by this rank, by the closed formula.
        is_done: False while the rank is inside, or has not waited for it.
    """

    ordinal: int
    kind: CollectiveKind
    bytes_sent: int
    is_done: bool = False


class Ledger:
    """A `Communicator` that passes everything on to `inner` and counts it.

    Groups made of it share its counts.

    Attributes:
        calls: number of calls by kind.
        bytes_sent: bytes this rank sent, by kind.
        recent: the last 64 collectives, oldest first: the flight recorder.
    """

    def __init__(self, inner: Communicator) -> None:
        self._inner = inner
        self.calls: Counter[CollectiveKind] = Counter()
        self.bytes_sent: Counter[CollectiveKind] = Counter()
        self.recent: deque[Entry] = deque(maxlen=_NUM_RECENT)
        self._ordinals = itertools.count()

    @property
    def rank(self) -> Rank:
        """See `Communicator.rank`."""
        return self._inner.rank

    @property
    def size(self) -> int:
        """See `Communicator.size`."""
        return self._inner.size

    @property
    def description(self) -> str:
        """See `Communicator.description`."""
        return self._inner.description

    @property
    def total_bytes_sent(self) -> int:
        """Bytes this rank sent, of all kinds."""
        return sum(self.bytes_sent.values())

    def barrier(self) -> None:
        """See `Communicator.barrier`."""
        entry = self._enter("barrier", 0)
        self._inner.barrier()
        self._leave(entry)

    def broadcast(self, buffer: Buffer, *, root: Rank = 0) -> None:
        """See `Communicator.broadcast`."""
        is_root = root == self._inner.rank
        entry = self._enter(
            "broadcast", buffer.nbytes * (self.size - 1) if is_root else 0
        )
        self._inner.broadcast(buffer, root=root)
        self._leave(entry)

    def all_gather(self, buffer: Buffer, counts: Sequence[int]) -> None:
        """See `Communicator.all_gather`."""
        entry = self._enter("all_gather", self._gathered_bytes(buffer, counts))
        self._inner.all_gather(buffer, counts)
        self._leave(entry)

    def all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> None:
        """See `Communicator.all_to_all`."""
        entry = self._enter("all_to_all", self._scattered_bytes(send, send_counts))
        self._inner.all_to_all(send, send_counts, recv, recv_counts)
        self._leave(entry)

    def start_all_gather(self, buffer: Buffer, counts: Sequence[int]) -> Pending:
        """See `Communicator.start_all_gather`."""
        entry = self._enter("all_gather", self._gathered_bytes(buffer, counts))
        pending = self._inner.start_all_gather(buffer, counts)
        return _CountedPending(pending, lambda: self._leave(entry))

    def start_all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> Pending:
        """See `Communicator.start_all_to_all`."""
        entry = self._enter("all_to_all", self._scattered_bytes(send, send_counts))
        pending = self._inner.start_all_to_all(send, send_counts, recv, recv_counts)
        return _CountedPending(pending, lambda: self._leave(entry))

    def all_reduce(self, buffer: Buffer, *, op: ReduceOp = "sum") -> None:
        """See `Communicator.all_reduce`."""
        entry = self._enter(
            "all_reduce", 2 * buffer.nbytes * (self.size - 1) // self.size
        )
        self._inner.all_reduce(buffer, op=op)
        self._leave(entry)

    def reduce_scatter(
        self, buffer: Buffer, counts: Sequence[int], out: Buffer
    ) -> None:
        """See `Communicator.reduce_scatter`."""
        entry = self._enter("reduce_scatter", self._scattered_bytes(buffer, counts))
        self._inner.reduce_scatter(buffer, counts, out)
        self._leave(entry)

    def all_gather_bytes(self, payload: bytes) -> list[bytes]:
        """See `Communicator.all_gather_bytes`."""
        entry = self._enter("all_gather_bytes", len(payload) * (self.size - 1))
        answers = self._inner.all_gather_bytes(payload)
        self._leave(entry)
        return answers

    def group(self, ranks: Sequence[Rank]) -> "Ledger":
        """See `Communicator.group`; what the group sends is counted here too."""
        group = Ledger(self._inner.group(ranks))
        group.calls, group.bytes_sent = self.calls, self.bytes_sent
        group.recent, group._ordinals = self.recent, self._ordinals
        return group

    def node_ranks(self) -> tuple[Rank, ...]:
        """See `Communicator.node_ranks`; not counted, as it is asked once."""
        return self._inner.node_ranks()

    def share(self, num_bytes: int) -> SharedMemory:
        """See `Communicator.share`; what is handed over in it is counted."""
        return _CountedMemory(self._inner.share(num_bytes), self)

    def count_hand_over(self, memory: SharedMemory) -> None:
        """Issue and count the `hand_over` of a memory."""
        entry = self._enter("hand_over", 0)
        memory.hand_over()
        self._leave(entry)

    @property
    def file_opener(self) -> FileOpener | None:
        """See `HasFiles.file_opener`; what goes to files is not counted."""
        inner = self._inner
        return inner.file_opener if isinstance(inner, HasFiles) else None

    def abort(self, message: str, code: int = EXIT_UNCAUGHT) -> NoReturn:
        """See `Communicator.abort`."""
        self._inner.abort(message, code)

    def close(self) -> None:
        """See `Communicator.close`."""
        self._inner.close()

    def _gathered_bytes(self, buffer: Buffer, counts: Sequence[int]) -> int:
        own = counts[self.rank] if self.rank < len(counts) else 0
        return own * buffer.itemsize * (self.size - 1)

    def _scattered_bytes(self, buffer: Buffer, counts: Sequence[int]) -> int:
        own = counts[self.rank] if self.rank < len(counts) else 0
        return (sum(counts) - own) * buffer.itemsize

    def _enter(self, kind: CollectiveKind, bytes_sent: int) -> Entry:
        entry = Entry(next(self._ordinals), kind, bytes_sent)
        self.recent.append(entry)
        return entry

    def _leave(self, entry: Entry) -> None:
        self.calls[entry.kind] += 1
        self.bytes_sent[entry.kind] += entry.bytes_sent
        entry.is_done = True


class _CountedPending:
    """A `Pending` that is counted when it was waited for the first time."""

    def __init__(self, inner: Pending, leave: Callable[[], None]) -> None:
        self._inner = inner
        self._leave: Callable[[], None] | None = leave

    def wait(self) -> None:
        """See `Pending.wait`."""
        self._inner.wait()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class _CountedMemory:
    """A `SharedMemory` whose hand-overs a ledger counts."""

    def __init__(self, inner: SharedMemory, ledger: Ledger) -> None:
        self._inner = inner
        self._ledger = ledger

    def part(self, rank: Rank) -> NDArray[np.uint8]:
        """See `SharedMemory.part`."""
        return self._inner.part(rank)

    def hand_over(self) -> None:
        """See `SharedMemory.hand_over`."""
        self._ledger.count_hand_over(self._inner)

    def drop(self, rank: Rank, first: int, last: int) -> None:
        """See `SharedMemory.drop`."""
        self._inner.drop(rank, first, last)

    def close(self) -> None:
        """See `SharedMemory.close`."""
        self._inner.close()
