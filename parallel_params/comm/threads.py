"""One rank of a local world: the collectives of a thread that meets other threads.

Nothing is sent: what a rank gives is copied once, and shared memory is simply memory.
The worlds that these ranks live in are made in `comm/local.py`.
"""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from parallel_params.comm.buffers import (
    as_bytes,
    check_exchange,
    check_group,
    check_num_bytes,
    check_open,
    check_parts,
    check_receive,
    check_reducible,
    check_root,
    check_same_dtype,
    check_send,
    check_untouched,
    offsets_of,
)
from parallel_params.comm.meeting import Call, LocalPending, Meeting, ThreadWorld
from parallel_params.comm.pages import drop_pages, reserve
from parallel_params.comm.protocol import (
    EXIT_UNCAUGHT,
    Buffer,
    Communicator,
    Pending,
    Rank,
    ReduceOp,
    SharedMemory,
)
from parallel_params.errors import CommunicationError, RankFailed

_COMBINE = {"sum": np.add, "min": np.minimum, "max": np.maximum}


class LocalCommunicator:
    """One thread's end of a `Communicator`; made in `comm/local.py`."""

    def __init__(self, world: ThreadWorld, meeting: Meeting, rank: Rank) -> None:
        self._world = world
        self._meeting = meeting
        self._rank = rank
        self._is_closed = False

    @property
    def rank(self) -> Rank:
        """See `Communicator.rank`."""
        return self._rank

    @property
    def size(self) -> int:
        """See `Communicator.size`."""
        return len(self._meeting.members)

    @property
    def description(self) -> str:
        """See `Communicator.description`."""
        return "1 thread" if self.size == 1 else f"{self.size} threads"

    def barrier(self) -> None:
        """See `Communicator.barrier`."""
        self._exchange(Call(text="barrier"))

    def broadcast(self, buffer: Buffer, *, root: Rank = 0) -> None:
        """See `Communicator.broadcast`."""
        check_receive(buffer, what="broadcast")
        check_root(root, num_ranks=self.size, what="broadcast")
        text = f"broadcast of {buffer.nbytes} bytes from rank {root}"
        sent = as_bytes(buffer).copy() if self._rank == root else None
        calls = self._exchange(Call(text=text, data=sent))
        if self._rank != root:
            as_bytes(buffer)[...] = calls[root].sent

    def all_gather(self, buffer: Buffer, counts: Sequence[int]) -> None:
        """See `Communicator.all_gather`."""
        self._start_all_gather("all_gather", buffer, counts).wait()

    def all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> None:
        """See `Communicator.all_to_all`."""
        self._start_all_to_all(
            "all_to_all", send, send_counts, recv, recv_counts
        ).wait()

    def start_all_gather(self, buffer: Buffer, counts: Sequence[int]) -> Pending:
        """See `Communicator.start_all_gather`."""
        return self._start_all_gather("start_all_gather", buffer, counts)

    def start_all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> Pending:
        """See `Communicator.start_all_to_all`."""
        return self._start_all_to_all(
            "start_all_to_all", send, send_counts, recv, recv_counts
        )

    def all_reduce(self, buffer: Buffer, *, op: ReduceOp = "sum") -> None:
        """See `Communicator.all_reduce`. Ranks are added in rank order."""
        check_receive(buffer, what="all_reduce")
        check_reducible(buffer, what="all_reduce")
        text = f"all_reduce ({op}) of {buffer.size} x {buffer.dtype}"
        calls = self._exchange(Call(text=text, data=as_bytes(buffer).copy()))
        flat = buffer.reshape(-1)
        flat[...] = calls[0].sent.view(buffer.dtype)
        for call in calls[1:]:
            _COMBINE[op](flat, call.sent.view(buffer.dtype), out=flat)

    def reduce_scatter(
        self, buffer: Buffer, counts: Sequence[int], out: Buffer
    ) -> None:
        """See `Communicator.reduce_scatter`. Ranks are added in rank order."""
        what = "reduce_scatter"
        check_send(buffer, what=what)
        check_receive(out, what=what)
        check_same_dtype(buffer, out, what=what)
        check_reducible(buffer, what=what)
        check_parts(buffer, counts, num_ranks=self.size, what=what)
        check_parts(out, [counts[self._rank]], num_ranks=1, what=f"{what} (out)")
        text = f"reduce_scatter of {list(counts)} x {buffer.dtype}"
        calls = self._exchange(Call(text=text, data=as_bytes(buffer).copy()))
        first, last = offsets_of(counts)[self._rank :][:2]
        out[...] = calls[0].sent.view(buffer.dtype)[first:last]
        for call in calls[1:]:
            np.add(out, call.sent.view(buffer.dtype)[first:last], out=out)

    def all_gather_bytes(self, payload: bytes) -> list[bytes]:
        """See `Communicator.all_gather_bytes`."""
        data = np.frombuffer(payload, np.uint8)
        calls = self._exchange(Call(text="all_gather_bytes", data=data))
        return [call.sent.tobytes() for call in calls]

    def group(self, ranks: Sequence[Rank]) -> Communicator:
        """See `Communicator.group`."""
        check_group(ranks, rank=self._rank, num_ranks=self.size)
        members = tuple(self._meeting.members[rank] for rank in ranks)
        position = list(ranks).index(self._rank)
        # Making a group is itself a collective of its members, so that two groups of
        # the same ranks stay apart, as under MPI.
        lobby = self._world.lobby(members)
        self._world.exchange(lobby, position, Call(text="group"))
        meeting = self._world.new_meeting(lobby, position)
        return LocalCommunicator(self._world, meeting, position)

    def node_ranks(self) -> tuple[Rank, ...]:
        """See `Communicator.node_ranks`. Threads are on one machine."""
        return tuple(range(self.size))

    def share(self, num_bytes: int) -> SharedMemory:
        """See `Communicator.share`."""
        check_num_bytes(num_bytes, what="share")
        calls = self._exchange(Call(text="share", data=reserve(num_bytes)))
        # Its own meeting, so that it outlives this communicator as under MPI.
        meeting = self._world.new_meeting(self._meeting, self._rank)
        comm = LocalCommunicator(self._world, meeting, self._rank)
        return LocalMemory(comm, [call.sent for call in calls])

    def abort(self, message: str, code: int = EXIT_UNCAUGHT) -> NoReturn:
        """See `Communicator.abort`. Ends the thread world, or a process of one rank.

        Raises:
            RankFailed: in a world of threads; its body should let it pass.
            SystemExit: in a world of one rank.
        """
        if self._world.num_ranks == 1:
            sys.stderr.write(f"{message.rstrip()}\n")
            raise SystemExit(code)
        rank = self._meeting.members[self._rank]
        raise RankFailed(f"rank {rank} ended the world: {message}", rank=rank)

    def close(self) -> None:
        """See `Communicator.close`."""
        self._is_closed = True

    def hand_over(self) -> None:
        """Wait as `barrier` does, under the name of what it is for."""
        self._exchange(Call(text="hand_over"))

    def _start_all_gather(
        self, what: str, buffer: Buffer, counts: Sequence[int]
    ) -> LocalPending:
        check_receive(buffer, what=what)
        check_parts(buffer, counts, num_ranks=self.size, what=what)
        starts = offsets_of(counts)
        own = buffer[starts[self._rank] : starts[self._rank + 1]]

        def take(calls: list[Call]) -> None:
            for rank, call in enumerate(calls):
                if rank != self._rank:
                    part = buffer[starts[rank] : starts[rank + 1]]
                    as_bytes(part)[...] = call.sent

        text = f"{what} of {list(counts)} elements of {buffer.itemsize} bytes"
        return self._start(Call(text=text, data=as_bytes(own).copy()), own, take)

    def _start_all_to_all(
        self,
        what: str,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> LocalPending:
        check_exchange(
            send, send_counts, recv, recv_counts, num_ranks=self.size, what=what
        )
        starts = offsets_of(recv_counts)

        def take(calls: list[Call]) -> None:
            for rank, call in enumerate(calls):
                first = sum(call.send_counts[: self._rank]) * send.itemsize
                last = first + call.send_counts[self._rank] * send.itemsize
                part = recv[starts[rank] : starts[rank + 1]]
                as_bytes(part)[...] = call.sent[first:last]

        call = Call(
            text=f"{what} of elements of {send.itemsize} bytes",
            data=as_bytes(send).copy(),
            send_counts=tuple(send_counts),
            recv_counts=tuple(recv_counts),
        )
        return self._start(call, send, take)

    def _exchange(self, call: Call) -> list[Call]:
        self._check_open(call)
        return self._world.exchange(self._meeting, self._rank, call)

    def _start(
        self, call: Call, sent: Buffer, take: Callable[[list[Call]], None]
    ) -> LocalPending:
        self._check_open(call)
        entered = self._world.enter(self._meeting, self._rank, call)

        def wait() -> None:
            calls = self._world.wait(self._meeting, self._rank, entered)
            check_untouched(sent, call.sent, what=call.text)
            take(calls)

        return LocalPending(wait)

    def _check_open(self, call: Call) -> None:
        if self._is_closed:
            raise CommunicationError(f"{call.text}: this communicator is closed.")


class LocalMemory:
    """A `SharedMemory` of threads, which share all they have."""

    def __init__(
        self, comm: LocalCommunicator, parts: Sequence[NDArray[np.uint8]]
    ) -> None:
        self._comm = comm
        self._parts = tuple(parts)
        self._is_closed = False

    def part(self, rank: Rank) -> NDArray[np.uint8]:
        """See `SharedMemory.part`."""
        check_open(self._is_closed)
        return self._parts[rank][:]

    def hand_over(self) -> None:
        """See `SharedMemory.hand_over`."""
        check_open(self._is_closed)
        self._comm.hand_over()

    def drop(self, rank: Rank, first: int, last: int) -> None:
        """See `SharedMemory.drop`."""
        drop_pages(self.part(rank)[first:last], is_shared=False)

    def close(self) -> None:
        """See `SharedMemory.close`. Python keeps what views still need."""
        if not self._is_closed:
            self._comm.barrier()
            self._is_closed, self._parts = True, ()
