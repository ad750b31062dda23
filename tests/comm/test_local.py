"""What the thread world adds: errors where MPI would hang, wakes and timeouts."""

import re
import threading
from collections.abc import Callable

import numpy as np
import pytest
from ranked import THREAD_TIMEOUT_S

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.local import run_threads, solo
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CommunicationError, RankFailed

Body = Callable[[Communicator], object]


def errors_of(size: int, body: Body) -> list[str]:
    """What each rank of a thread world was told, by rank."""

    def catching(comm: Communicator) -> str:
        try:
            body(comm)
        except CommunicationError as error:
            return str(error)
        return ""

    return run_threads(size, catching)


def test_results_come_in_rank_order() -> None:
    assert run_threads(5, lambda comm: comm.rank * 10) == [0, 10, 20, 30, 40]


def test_a_world_has_at_least_one_rank() -> None:
    with pytest.raises(CommunicationError, match="at least 1 rank"):
        run_threads(0, lambda comm: None)


# What rank 1 does differently, and the words that say so.
DIFFERENCES: dict[str, tuple[Body, Body]] = {
    "rank 0: barrier; rank 1: all_gather_bytes": (
        lambda comm: comm.barrier(),
        lambda comm: comm.all_gather_bytes(b""),
    ),
    "broadcast of 16 bytes from rank 0; rank 1: broadcast of 16 bytes from rank 1": (
        lambda comm: comm.broadcast(np.zeros(2), root=0),
        lambda comm: comm.broadcast(np.zeros(2), root=1),
    ),
    "broadcast of 16 bytes from rank 0; rank 1: broadcast of 24 bytes from rank 0": (
        lambda comm: comm.broadcast(np.zeros(2)),
        lambda comm: comm.broadcast(np.zeros(3)),
    ),
    r"all_gather of \[1, 1\] elements of 8 bytes; rank 1: all_gather of \[2, 0\]": (
        lambda comm: comm.all_gather(np.zeros(2), [1, 1]),
        lambda comm: comm.all_gather(np.zeros(2), [2, 0]),
    ),
    r"all_reduce \(sum\) of 2 x float64; rank 1: all_reduce \(max\) of 2 x float64": (
        lambda comm: comm.all_reduce(np.zeros(2)),
        lambda comm: comm.all_reduce(np.zeros(2), op="max"),
    ),
    r"of 2 x float64; rank 1: all_reduce \(sum\) of 2 x float32": (
        lambda comm: comm.all_reduce(np.zeros(2)),
        lambda comm: comm.all_reduce(np.zeros(2, np.float32)),
    ),
    r"reduce_scatter of \[2, 0\] x float64; rank 1: reduce_scatter of \[0, 2\]": (
        lambda comm: comm.reduce_scatter(np.zeros(2), [2, 0], np.zeros(2)),
        lambda comm: comm.reduce_scatter(np.zeros(2), [0, 2], np.zeros(2)),
    ),
    "rank 1 sends 3 elements to rank 0, which expects 2": (
        lambda comm: comm.all_to_all(np.zeros(2), [1, 1], np.zeros(3), [1, 2]),
        lambda comm: comm.all_to_all(np.zeros(4), [3, 1], np.zeros(2), [1, 1]),
    ),
}


@pytest.mark.parametrize("words", DIFFERENCES)
def test_different_collectives_are_an_error_on_all_ranks(words: str) -> None:
    first, other = DIFFERENCES[words]
    found = errors_of(2, lambda comm: (first, other)[comm.rank](comm))
    assert found[0] == found[1]
    assert re.search(words, found[0]), found[0]


def test_a_rank_that_has_returned_is_not_waited_for() -> None:
    def body(comm: Communicator) -> None:
        if comm.rank != 1:
            comm.barrier()

    found = errors_of(3, body)
    assert found[1] == ""
    assert found[0] == found[2]
    assert "rank 0 in barrier of ranks [0, 1, 2]" in found[0]
    assert "rank 1 has returned" in found[0]


def test_ranks_that_wait_for_each_other_are_told() -> None:
    def body(comm: Communicator) -> None:
        pair = comm.group([0, 1])
        (comm if comm.rank == 0 else pair).barrier()

    found = errors_of(2, body)
    assert found[0] == found[1]
    assert found[0].startswith("the ranks wait for each other: rank 0 in barrier")


def test_what_was_only_started_is_waited_for_in_vain_and_told() -> None:
    def body(comm: Communicator) -> None:
        pending = comm.start_all_gather(np.zeros(2), [1, 1])
        if comm.rank == 0:
            # Complete on both ranks, though the other never asks.
            pending.wait()
            comm.start_all_gather(np.zeros(2), [1, 1]).wait()

    found = errors_of(2, body)
    assert found[1] == ""
    words = r"wait for each other: rank 0 in start_all_gather .* rank 1 has returned"
    assert re.search(words, found[0]), found[0]


def test_writing_into_what_is_under_way_is_told() -> None:
    def body(comm: Communicator) -> None:
        buffer = np.zeros(2, np.float32)
        pending = comm.start_all_gather(buffer, [1, 1])
        buffer[1 - comm.rank] = np.nan  # is to be received: free until then
        buffer[comm.rank] = comm.rank
        pending.wait()

    found = errors_of(2, body)
    assert found[0] == ""
    assert "was written while it was under way" in found[1]


def test_a_started_collective_does_not_meet_one_that_waits() -> None:
    def body(comm: Communicator) -> None:
        buffer = np.zeros(2)
        if comm.rank == 0:
            comm.start_all_gather(buffer, [1, 1]).wait()
        else:
            comm.all_gather(buffer, [1, 1])

    found = errors_of(2, body)
    assert found[0] == found[1]
    assert "rank 0: start_all_gather" in found[0]


def test_a_failure_wakes_who_waits_for_what_was_started() -> None:
    is_started = threading.Event()

    def body(comm: Communicator) -> None:
        if comm.rank == 1:
            is_started.wait(THREAD_TIMEOUT_S)
            raise ValueError("no such layer")
        pending = comm.start_all_gather(np.zeros(2), [1, 1])
        is_started.set()
        with pytest.raises(RankFailed, match="rank 1 failed"):
            pending.wait()
        with pytest.raises(RankFailed, match="rank 1 failed"):
            comm.start_all_gather(np.zeros(2), [1, 1])

    with pytest.raises(ValueError, match="no such layer"):
        run_threads(2, body)


def test_a_raising_rank_wakes_the_others_and_is_raised() -> None:
    woken: dict[int, RankFailed] = {}

    def body(comm: Communicator) -> None:
        if comm.rank == 1:
            raise ValueError("no such layer")
        try:
            comm.barrier()
        except RankFailed as error:
            woken[comm.rank] = error
            raise

    with pytest.raises(ValueError, match="no such layer"):
        run_threads(3, body)
    assert sorted(woken) == [0, 2]
    assert woken[0].rank == 1
    assert "rank 1 failed: ValueError: no such layer" in str(woken[0])


def test_an_agreed_error_is_raised_from_the_rank_that_had_it() -> None:
    def body(comm: Communicator) -> None:
        agree_ok(comm, OSError("disk full") if comm.rank == 2 else None)

    with pytest.raises(RankFailed, match="rank 2 of 3 failed") as caught:
        run_threads(3, body)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_failure_reaches_ranks_that_wait_for_nobody() -> None:
    def work_alone(comm: Communicator) -> None:
        alone = comm.group([comm.rank])
        while True:
            alone.barrier()

    def body(comm: Communicator) -> None:
        if comm.rank == 0:
            raise ValueError("no such layer")
        with pytest.raises(RankFailed, match="rank 0 failed"):
            work_alone(comm)

    with pytest.raises(ValueError, match="no such layer"):
        run_threads(2, body)


def test_a_rank_that_stays_away_is_named_after_the_timeout() -> None:
    has_given_up = threading.Event()

    def body(comm: Communicator) -> None:
        if comm.rank == 1:
            has_given_up.wait(THREAD_TIMEOUT_S)
            return
        try:
            comm.barrier()
        finally:
            has_given_up.set()

    with pytest.raises(CommunicationError, match=r"in barrier; ranks \[1\] did not"):
        run_threads(2, body, timeout_s=0.01)


def test_aborting_a_thread_world_ends_it() -> None:
    def body(comm: Communicator) -> None:
        if comm.rank == 1:
            comm.abort("enough")
        comm.barrier()

    with pytest.raises(RankFailed, match="rank 1 ended the world: enough"):
        run_threads(2, body)


def test_aborting_a_world_of_one_ends_the_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        solo().abort("enough", 3)
    assert caught.value.code == 3
    assert capsys.readouterr().err == "enough\n"


def test_a_closed_communicator_is_refused() -> None:
    comm = solo()
    comm.close()
    with pytest.raises(CommunicationError, match="closed"):
        comm.barrier()


def test_ranks_see_the_callers_numpy_error_state() -> None:
    with np.errstate(divide="raise"):
        states = run_threads(2, lambda comm: np.geterr()["divide"])
    assert states == ["raise", "raise"]


def test_sums_are_added_in_rank_order() -> None:
    values = np.array([1e8, 1.0, -1e8], np.float32)

    def body(comm: Communicator) -> float:
        buffer = values[comm.rank : comm.rank + 1].copy()
        comm.all_reduce(buffer)
        return float(buffer[0])

    # (1e8 + 1) - 1e8 in float32: the 1 is lost. Another order would keep it.
    assert run_threads(3, body) == [0.0, 0.0, 0.0]
