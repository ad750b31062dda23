"""What only MPI has: counts too large for one call, and a library with a name."""

import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from ranked import assert_on_all_ranks

from parallel_params.comm.buffers import offsets_of
from parallel_params.comm.protocol import Buffer, Communicator
from parallel_params.errors import LaunchError

pytestmark = pytest.mark.mpi

# 2**31 - 1 in life; so small here that every collective has to be cut.
SMALL = 5


@pytest.fixture
def narrow() -> Communicator:
    """A communicator of the world whose MPI calls take few elements."""
    from parallel_params.comm import mpi

    return mpi.world(environ=os.environ, max_count=SMALL)


def values(rank: int, numel: int) -> Buffer:
    return (np.arange(numel) + 1000 * rank).astype(np.float32)


def test_long_buffers_are_broadcast_and_reduced_in_parts(narrow: Communicator) -> None:
    numel = 3 * SMALL + 2
    buffer = values(narrow.rank, numel)
    narrow.broadcast(buffer, root=narrow.size - 1)
    is_right = bool((buffer == values(narrow.size - 1, numel)).all())
    narrow.all_reduce(buffer)
    is_right &= bool((buffer == narrow.size * values(narrow.size - 1, numel)).all())
    assert_on_all_ranks(narrow, is_right, f"found {buffer}")
    narrow.close()


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_long_parts_are_gathered(narrow: Communicator, dtype: str) -> None:
    counts = [(SMALL + rank) * (rank % 2 == 0) for rank in range(narrow.size)]
    starts = offsets_of(counts)
    whole = values(0, starts[-1]).astype(dtype)
    buffer = np.zeros_like(whole)
    mine = slice(starts[narrow.rank], starts[narrow.rank + 1])
    buffer[mine] = whole[mine]
    narrow.all_gather(buffer, counts)
    assert_on_all_ranks(narrow, bool((buffer == whole).all()), f"found {buffer}")
    narrow.close()


def test_long_parts_are_gathered_without_waiting(narrow: Communicator) -> None:
    counts = [SMALL + 2 * rank for rank in range(narrow.size)]
    starts = offsets_of(counts)
    whole = values(0, starts[-1])
    buffer = np.zeros_like(whole)
    mine = slice(starts[narrow.rank], starts[narrow.rank + 1])
    buffer[mine] = whole[mine]
    narrow.start_all_gather(buffer, counts).wait()
    assert_on_all_ranks(narrow, bool((buffer == whole).all()), f"found {buffer}")
    narrow.close()


@pytest.mark.parametrize("is_waiting", [True, False])
@pytest.mark.parametrize("longest", [2, 4 * SMALL])
def test_long_segments_travel_beside_short_ones(
    narrow: Communicator, longest: int, is_waiting: bool
) -> None:
    def segment(sender: int, receiver: int) -> Buffer:
        return values(10 * sender + receiver, (sender * 7 + receiver * 3) % longest)

    rank, others = narrow.rank, range(narrow.size)
    send = np.concatenate([segment(rank, other) for other in others])
    want = np.concatenate([segment(other, rank) for other in others])
    got = np.zeros_like(want)
    sizes = [segment(rank, other).size for other in others]
    counts = sizes, [segment(other, rank).size for other in others]
    if is_waiting:
        narrow.all_to_all(send, counts[0], got, counts[1])
    else:
        # Two under way: the segments of one must not arrive in the other.
        other = np.zeros_like(got)
        first = narrow.start_all_to_all(send, counts[0], got, counts[1])
        second = narrow.start_all_to_all(-send, counts[0], other, counts[1])
        second.wait()
        first.wait()
        assert_on_all_ranks(narrow, bool((other == -want).all()), f"{other}")
    assert_on_all_ranks(narrow, bool((got == want).all()), f"{got} is not {want}")
    narrow.close()


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex128"])
def test_long_messages_travel_in_pieces(
    world: Communicator, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parallel_params.comm import mpi, mpi_messages

    monkeypatch.setattr(mpi_messages, "PIECE_BYTES", 32)
    comm = mpi.world(environ=os.environ)
    rank, others = comm.rank, range(comm.size)
    counts = [41 + 3 * each if each % 2 == 0 else each for each in others]
    parts = [values(each, counts[each]).astype(dtype) for each in others]
    buffer = np.concatenate([p if r == rank else 0 * p for r, p in enumerate(parts)])
    sent = np.concatenate([values(10 * rank + r, counts[r]) for r in others])
    got = np.zeros(counts[rank] * comm.size, dtype)
    own = [counts[rank]] * comm.size
    pending = [
        comm.start_all_gather(buffer, counts),
        comm.start_all_to_all(sent.astype(dtype), counts, got, own),
    ]
    for each in reversed(pending):
        each.wait()
    want = np.concatenate([values(10 * r + rank, counts[rank]) for r in others])
    is_right = bool((got == want.astype(dtype)).all())
    is_right &= bool((buffer == np.concatenate(parts)).all())
    assert_on_all_ranks(comm, is_right, f"{got}, {buffer}")
    comm.close()


def test_long_sums_are_scattered_in_parts(narrow: Communicator) -> None:
    counts = [2 * SMALL + 3 * rank for rank in range(narrow.size)]
    starts = offsets_of(counts)
    whole = values(0, starts[-1])
    out = np.zeros(counts[narrow.rank], np.float32)
    narrow.reduce_scatter(whole, counts, out)
    want = narrow.size * whole[starts[narrow.rank] : starts[narrow.rank + 1]]
    assert_on_all_ranks(narrow, bool((out == want).all()), f"{out} is not {want}")
    narrow.close()


def test_description_names_library_and_version(world: Communicator) -> None:
    from parallel_params.comm import mpi

    library = mpi.library()
    is_right = world.description.startswith(f"{library.name} {library.version}, ")
    assert_on_all_ranks(world, is_right, world.description)
    assert library.standard >= (3, 1)


def test_a_launcher_that_claims_more_ranks_is_refused(world: Communicator) -> None:
    from parallel_params.comm import mpi

    claims = {"PMI_SIZE": "7"}
    if world.size == 1:
        with pytest.raises(LaunchError, match="started 7 ranks, but the MPI library"):
            mpi.world(environ=claims)


@pytest.mark.mpi(min_size=2)
def test_the_lowest_clock_failed_first(world: Communicator) -> None:
    from parallel_params.comm import mpi

    comm = mpi.world(environ=os.environ)
    # Rank r believes that it failed r seconds before the others began to.
    with mock.patch("time.time", return_value=100.0 - comm.rank):
        first = comm.first_failure(f"of {comm.rank}", is_consequence=False)
    assert_on_all_ranks(comm, first == comm.size - 1, f"rank {first}")
    comm.close()


def test_thousands_of_worlds_can_be_opened_one_after_the_other(
    world: Communicator,
) -> None:
    from parallel_params.comm import mpi

    # MPICH has room for about 2000 communicators at a time. More ranks than cores make
    # them slowly, and would find nothing that two do not.
    num_worlds = 2100 if world.size <= 2 else 20
    for _ in range(num_worlds):
        mpi.world(environ=os.environ).close()
    assert_on_all_ranks(world, True)


def test_a_world_has_no_name_in_shared_memory_to_leave_behind(
    world: Communicator,
) -> None:
    maps = Path("/proc/self/maps").read_text("utf-8").splitlines()
    named = [line for line in maps if "mpich_shm_" in line and "(deleted)" not in line]
    assert_on_all_ranks(world, not named, str(named))
