"""N ranks as N threads of one process: the verified fake of MPI and the serial twin.

What MPI leaves undefined is an error here, on every rank and without waiting: ranks
that call different collectives, ranks that wait for each other, a rank that has
finished while others still wait for it. It is made for tests, for debugging and for
worlds of one rank, not for speed: every part is copied once.
"""

import contextvars
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import numpy as np

from parallel_params.comm.buffers import (
    as_bytes,
    check_group,
    check_parts,
    check_receive,
    check_reducible,
    check_root,
    check_same_dtype,
    check_send,
    offsets_of,
)
from parallel_params.comm.meeting import Call, Meeting, ThreadWorld
from parallel_params.comm.protocol import (
    EXIT_UNCAUGHT,
    Buffer,
    Communicator,
    Rank,
    ReduceOp,
)
from parallel_params.errors import CommunicationError, RankFailed

T = TypeVar("T")

_COMBINE = {"sum": np.add, "min": np.minimum, "max": np.maximum}


class LocalCommunicator:
    """One thread's end of a `Communicator`; made by `run_threads` and `solo`."""

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
        check_receive(buffer, what="all_gather")
        check_parts(buffer, counts, num_ranks=self.size, what="all_gather")
        starts = offsets_of(counts)
        own = buffer[starts[self._rank] : starts[self._rank + 1]]
        text = f"all_gather of {list(counts)} elements of {buffer.itemsize} bytes"
        calls = self._exchange(Call(text=text, data=as_bytes(own).copy()))
        for rank, call in enumerate(calls):
            if rank != self._rank:
                as_bytes(buffer[starts[rank] : starts[rank + 1]])[...] = call.sent

    def all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> None:
        """See `Communicator.all_to_all`."""
        what = "all_to_all"
        check_send(send, what=what)
        check_receive(recv, what=what)
        check_same_dtype(send, recv, what=what)
        check_parts(send, send_counts, num_ranks=self.size, what=f"{what} (send)")
        check_parts(recv, recv_counts, num_ranks=self.size, what=f"{what} (receive)")
        calls = self._exchange(
            Call(
                text=f"all_to_all of elements of {send.itemsize} bytes",
                data=as_bytes(send).copy(),
                send_counts=tuple(send_counts),
                recv_counts=tuple(recv_counts),
            )
        )
        starts = offsets_of(recv_counts)
        for rank, call in enumerate(calls):
            first = sum(call.send_counts[: self._rank]) * send.itemsize
            last = first + call.send_counts[self._rank] * send.itemsize
            as_bytes(recv[starts[rank] : starts[rank + 1]])[...] = call.sent[first:last]

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

    def _exchange(self, call: Call) -> list[Call]:
        if self._is_closed:
            raise CommunicationError(f"{call.text}: this communicator is closed.")
        return self._world.exchange(self._meeting, self._rank, call)


def solo() -> Communicator:
    """Return a world of one rank, this process, without MPI."""
    world = ThreadWorld(num_ranks=1, timeout_s=None)
    return LocalCommunicator(world, world.whole, 0)


def run_threads(
    size: int,
    body: Callable[[Communicator], T],
    *,
    timeout_s: float | None = None,
) -> list[T]:
    """Run `body(communicator)` on `size` ranks at once and return what each returned.

    A body that raises ends the world: the others get `RankFailed` from the collective
    they wait in or call next. One rank alone runs in the calling thread.

    Args:
        size: number of ranks, at least 1.
        body: what every rank does.
        timeout_s: longest wait in one collective, in seconds; None waits for ever.
            Ranks that can never meet are found without it.

    Raises:
        BaseException: what the first failing rank raised.
    """
    if size < 1:
        raise CommunicationError(f"a world has at least 1 rank, found size={size}.")
    if size == 1:
        return [body(solo())]
    world = ThreadWorld(num_ranks=size, timeout_s=timeout_s)
    results: dict[Rank, T] = {}

    def run(rank: Rank) -> None:
        try:
            results[rank] = body(LocalCommunicator(world, world.whole, rank))
        except BaseException as error:  # the caller raises it again
            world.leave(rank, error)
        else:
            world.leave(rank, None)

    threads = [_start_rank(run, rank) for rank in range(size)]
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:
        world.leave(0, error)
        raise
    world.raise_first()
    return [results[rank] for rank in range(size)]


def _start_rank(run: Callable[[Rank], None], rank: Rank) -> threading.Thread:
    # A rank sees the context of the caller, np.errstate for instance.
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(run, rank), name=f"rank {rank}", daemon=True
    )
    thread.start()
    return thread
