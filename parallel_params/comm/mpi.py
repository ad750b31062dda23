"""The world of MPI processes: the door to MPI for all other floors.

Importing this module loads the MPI library and does not start it; `world` does. All
messages travel on a duplicate of MPI's world, so that they never meet a user's own.
Whether a process *should* open a world is decided in `comm/world.py`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from parallel_params.comm.buffers import (
    as_bytes,
    as_units,
    check_exchange,
    check_group,
    check_num_bytes,
    check_parts,
    check_receive,
    check_reducible,
    check_root,
    check_same_dtype,
    check_send,
    offsets_of,
)
from parallel_params.comm.launch_env import check_launcher, check_world_size
from parallel_params.comm.local import solo
from parallel_params.comm.mpi_failure import abort_world, first_failure
from parallel_params.comm.mpi_files import MPIFile
from parallel_params.comm.mpi_library import MPI, Library, is_started, library
from parallel_params.comm.mpi_messages import Exchange, start_all_gather
from parallel_params.comm.mpi_window import open_window, ranks_beside
from parallel_params.comm.protocol import (
    EXIT_UNCAUGHT,
    Buffer,
    Pending,
    Rank,
    ReduceOp,
    SharedMemory,
)
from parallel_params.comm.room import Room, window_folder
from parallel_params.comm.segments import unlink_segments
from parallel_params.comm.shared_files import FileOpener

__all__ = ["Library", "MPICommunicator", "is_started", "library", "world"]

# The largest count of MPI 3, which Open MPI 5 still is.
MAX_COUNT = 2**31 - 1

_OPS = {"sum": MPI.SUM, "min": MPI.MIN, "max": MPI.MAX}


def world(
    *, environ: Mapping[str, str], max_count: int = MAX_COUNT
) -> "MPICommunicator":
    """Start MPI if nobody has and return a communicator of all its processes.

    Args:
        environ: the environment, for what the launcher says about the world.
        max_count: most elements in one MPI call; smaller in tests.

    Raises:
        LaunchError: the launcher belongs to another MPI than the library.

    Collective: every process of the world.
    """
    if not MPI.Is_initialized():
        check_launcher(environ, library=library().name)
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    check_world_size(environ, size=MPI.COMM_WORLD.Get_size(), library=library().name)
    comm = MPI.COMM_WORLD.Dup()
    unlink_segments()
    room = _room(window_folder(environ))
    return MPICommunicator(comm, notices=_notices(), room=room, max_count=max_count)


# One for all worlds of a process: they take from the same.
@functools.cache
def _room(folder: str) -> Room:
    return Room(folder)


# One for all worlds of a process: hooks use it until the end, so nobody can free it.
@functools.cache
def _notices() -> MPI.Intracomm:
    return MPI.COMM_WORLD.Dup()


class MPICommunicator:
    """A `Communicator` over one of MPI's, which it owns."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        *,
        notices: MPI.Intracomm,
        room: Room,
        max_count: int,
    ) -> None:
        self._comm = comm
        self._notices = notices
        self._room = room
        self._max_count = max_count
        self._node_ranks: tuple[Rank, ...] | None = None
        # Asked once: both are read on every call.
        self._rank = comm.Get_rank()
        self._size = comm.Get_size()

    @property
    def rank(self) -> Rank:
        """See `Communicator.rank`."""
        return self._rank

    @property
    def size(self) -> int:
        """See `Communicator.size`."""
        return self._size

    @property
    def description(self) -> str:
        """See `Communicator.description`."""
        lib = library()
        ranks = "1 rank" if self._size == 1 else f"{self._size} ranks"
        return f"{lib.name} {lib.version}, {ranks}"

    def barrier(self) -> None:
        """See `Communicator.barrier`."""
        self._comm.Barrier()

    def broadcast(self, buffer: Buffer, *, root: Rank = 0) -> None:
        """See `Communicator.broadcast`."""
        check_receive(buffer, what="broadcast")
        check_root(root, num_ranks=self._size, what="broadcast")
        self._broadcast(as_bytes(buffer), root)

    def all_gather(self, buffer: Buffer, counts: Sequence[int]) -> None:
        """See `Communicator.all_gather`."""
        check_receive(buffer, what="all_gather")
        check_parts(buffer, counts, num_ranks=self._size, what="all_gather")
        units, per_element = as_units(buffer)
        sizes = [count * per_element for count in counts]
        starts = offsets_of(sizes)
        if starts[-1] <= self._max_count:
            self._comm.Allgatherv(MPI.IN_PLACE, [units, (sizes, starts[:-1])])
            return
        for rank in range(self._size):
            self._broadcast(units[starts[rank] : starts[rank + 1]], rank)

    def all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> None:
        """See `Communicator.all_to_all`."""
        self._exchange("all_to_all", send, send_counts, recv, recv_counts).run()

    def start_all_gather(self, buffer: Buffer, counts: Sequence[int]) -> Pending:
        """See `Communicator.start_all_gather`."""
        check_receive(buffer, what="start_all_gather")
        check_parts(buffer, counts, num_ranks=self._size, what="start_all_gather")
        return start_all_gather(self._comm, buffer, counts, max_count=self._max_count)

    def start_all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> Pending:
        """See `Communicator.start_all_to_all`."""
        what = "start_all_to_all"
        return self._exchange(what, send, send_counts, recv, recv_counts).start()

    def all_reduce(self, buffer: Buffer, *, op: ReduceOp = "sum") -> None:
        """See `Communicator.all_reduce`."""
        check_receive(buffer, what="all_reduce")
        check_reducible(buffer, what="all_reduce")
        flat = buffer.reshape(-1)
        for first in range(0, flat.size, self._max_count):
            part = flat[first : first + self._max_count]
            self._comm.Allreduce(MPI.IN_PLACE, part, _OPS[op])

    def reduce_scatter(
        self, buffer: Buffer, counts: Sequence[int], out: Buffer
    ) -> None:
        """See `Communicator.reduce_scatter`."""
        what = "reduce_scatter"
        check_send(buffer, what=what)
        check_receive(out, what=what)
        check_same_dtype(buffer, out, what=what)
        check_reducible(buffer, what=what)
        check_parts(buffer, counts, num_ranks=self._size, what=what)
        check_parts(out, [counts[self._rank]], num_ranks=1, what=f"{what} (out)")
        if buffer.size <= self._max_count:
            self._comm.Reduce_scatter(buffer, out, list(counts), MPI.SUM)
            return
        starts = offsets_of(counts)
        for rank in range(self._size):
            whole = buffer[starts[rank] : starts[rank + 1]]
            for first in range(0, whole.size, self._max_count):
                last = first + self._max_count
                mine = out[first:last] if rank == self._rank else None
                self._comm.Reduce(whole[first:last], mine, MPI.SUM, rank)

    def all_gather_bytes(self, payload: bytes) -> list[bytes]:
        """See `Communicator.all_gather_bytes`."""
        sizes = np.zeros(self._size, np.int64)
        sizes[self._rank] = len(payload)
        self._comm.Allgather(MPI.IN_PLACE, sizes)
        starts = offsets_of(sizes.tolist())
        buffer = np.empty(starts[-1], np.uint8)
        buffer[starts[self._rank] : starts[self._rank + 1]] = np.frombuffer(
            payload, np.uint8
        )
        self.all_gather(buffer, sizes.tolist())
        return [
            buffer[starts[rank] : starts[rank + 1]].tobytes()
            for rank in range(self._size)
        ]

    def group(self, ranks: Sequence[Rank]) -> "MPICommunicator":
        """See `Communicator.group`."""
        check_group(ranks, rank=self._rank, num_ranks=self._size)
        members = self._comm.Get_group().Incl(list(ranks))
        comm = self._comm.Create_group(members)
        members.Free()
        return MPICommunicator(
            comm,
            notices=self._notices,
            room=self._room,
            max_count=self._max_count,
        )

    def node_ranks(self) -> tuple[Rank, ...]:
        """See `Communicator.node_ranks`."""
        if self._node_ranks is None:
            self._node_ranks = ranks_beside(self._comm)
        return self._node_ranks

    def share(self, num_bytes: int) -> SharedMemory:
        """See `Communicator.share`."""
        check_num_bytes(num_bytes, what="share")
        if self._size == 1:
            return solo().share(num_bytes)
        return open_window(self._comm, num_bytes, self.node_ranks(), self._room)

    @property
    def file_opener(self) -> FileOpener:
        """See `HasFiles.file_opener`."""
        return MPIFile

    def abort(self, message: str, code: int = EXIT_UNCAUGHT) -> NoReturn:
        """See `Communicator.abort`. Labels every line with the rank of the world."""
        abort_world(self._notices, message, code)

    def first_failure(self, what: str, *, is_consequence: bool) -> Rank:
        """See `KnowsFirstFailure.first_failure`."""
        return first_failure(self._notices, what, is_consequence=is_consequence)

    def close(self) -> None:
        """See `Communicator.close`."""
        self._comm.Free()

    def _broadcast(self, units: Buffer, root: Rank) -> None:
        for first in range(0, units.size, self._max_count):
            self._comm.Bcast(units[first : first + self._max_count], root)

    def _exchange(
        self,
        what: str,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> Exchange:
        check_exchange(
            send, send_counts, recv, recv_counts, num_ranks=self._size, what=what
        )
        return Exchange(
            self._comm, send, send_counts, recv, recv_counts, max_count=self._max_count
        )
