"""Counts the calls and bytes of a communicator and remembers the last of them.

A wrapper: it sends nothing and changes nothing. Bytes are what one rank *sends*, by a
closed formula for each kind that does not depend on how the library does it, so that
a plan can announce the same numbers without sending anything.
"""

import itertools
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

from parallel_params.comm.protocol import (
    EXIT_UNCAUGHT,
    Buffer,
    Communicator,
    Rank,
    ReduceOp,
)

CollectiveKind: TypeAlias = Literal[
    "barrier",
    "broadcast",
    "all_gather",
    "all_to_all",
    "all_reduce",
    "reduce_scatter",
    "all_gather_bytes",
]

_NUM_RECENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One collective as this rank issued it.

    Attributes:
        ordinal: how many came before it, on the communicator and its groups.
        kind: which collective.
        bytes_sent: by this rank, by the closed formula.
        is_done: False while the rank is inside.
    """

    ordinal: int
    kind: CollectiveKind
    bytes_sent: int
    is_done: bool


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
        self._enter("barrier", 0)
        self._inner.barrier()
        self._leave()

    def broadcast(self, buffer: Buffer, *, root: Rank = 0) -> None:
        """See `Communicator.broadcast`."""
        is_root = root == self._inner.rank
        self._enter("broadcast", buffer.nbytes * (self.size - 1) if is_root else 0)
        self._inner.broadcast(buffer, root=root)
        self._leave()

    def all_gather(self, buffer: Buffer, counts: Sequence[int]) -> None:
        """See `Communicator.all_gather`."""
        own = counts[self.rank] if self.rank < len(counts) else 0
        self._enter("all_gather", own * buffer.itemsize * (self.size - 1))
        self._inner.all_gather(buffer, counts)
        self._leave()

    def all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> None:
        """See `Communicator.all_to_all`."""
        own = send_counts[self.rank] if self.rank < len(send_counts) else 0
        self._enter("all_to_all", (sum(send_counts) - own) * send.itemsize)
        self._inner.all_to_all(send, send_counts, recv, recv_counts)
        self._leave()

    def all_reduce(self, buffer: Buffer, *, op: ReduceOp = "sum") -> None:
        """See `Communicator.all_reduce`."""
        self._enter("all_reduce", 2 * buffer.nbytes * (self.size - 1) // self.size)
        self._inner.all_reduce(buffer, op=op)
        self._leave()

    def reduce_scatter(
        self, buffer: Buffer, counts: Sequence[int], out: Buffer
    ) -> None:
        """See `Communicator.reduce_scatter`."""
        own = counts[self.rank] if self.rank < len(counts) else 0
        self._enter("reduce_scatter", (sum(counts) - own) * buffer.itemsize)
        self._inner.reduce_scatter(buffer, counts, out)
        self._leave()

    def all_gather_bytes(self, payload: bytes) -> list[bytes]:
        """See `Communicator.all_gather_bytes`."""
        self._enter("all_gather_bytes", len(payload) * (self.size - 1))
        answers = self._inner.all_gather_bytes(payload)
        self._leave()
        return answers

    def group(self, ranks: Sequence[Rank]) -> "Ledger":
        """See `Communicator.group`; what the group sends is counted here too."""
        group = Ledger(self._inner.group(ranks))
        group.calls, group.bytes_sent = self.calls, self.bytes_sent
        group.recent, group._ordinals = self.recent, self._ordinals
        return group

    def abort(self, message: str, code: int = EXIT_UNCAUGHT) -> NoReturn:
        """See `Communicator.abort`."""
        self._inner.abort(message, code)

    def close(self) -> None:
        """See `Communicator.close`."""
        self._inner.close()

    def _enter(self, kind: CollectiveKind, bytes_sent: int) -> None:
        self.recent.append(
            Entry(
                ordinal=next(self._ordinals),
                kind=kind,
                bytes_sent=bytes_sent,
                is_done=False,
            )
        )

    def _leave(self) -> None:
        entry = self.recent[-1]
        self.calls[entry.kind] += 1
        self.bytes_sent[entry.kind] += entry.bytes_sent
        self.recent[-1] = Entry(
            ordinal=entry.ordinal,
            kind=entry.kind,
            bytes_sent=entry.bytes_sent,
            is_done=True,
        )
