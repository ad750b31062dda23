"""The same value on all ranks, or the same error on all ranks."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranked import OnRanks, assert_on_all_ranks

from parallel_params.comm.agree import (
    agree_ok,
    agree_same,
    first_difference,
    odd_ranks,
)
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanMismatch, RankFailed

pytestmark = pytest.mark.mpi

Body: TypeAlias = Callable[[Communicator], None]


def unless_alone(body: Body) -> Body:
    """Two ranks at least: one rank cannot differ from itself."""
    return lambda comm: body(comm) if comm.size > 1 else None


def test_no_error_passes(on_ranks: OnRanks) -> None:
    on_ranks(lambda comm: agree_ok(comm, None))


def test_one_ranks_error_is_raised_by_all(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        last = comm.size - 1
        mine = OSError("disk full") if comm.rank == last else None
        with pytest.raises(RankFailed) as caught:
            agree_ok(comm, mine)
        error = caught.value
        ok = error.rank == last and error.__cause__ is mine
        want = f"rank {last} of {comm.size} failed: OSError: disk full"
        assert_on_all_ranks(comm, ok and str(error) == want, repr(error))

    on_ranks(unless_alone(body))


def test_an_error_that_all_share_is_raised_as_itself(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        mine = ValueError("no such level")
        with pytest.raises(ValueError, match="no such level") as caught:
            agree_ok(comm, mine)
        assert_on_all_ranks(comm, caught.value is mine)

    on_ranks(body)


def test_of_several_errors_the_lowest_rank_is_named(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        with pytest.raises(RankFailed) as caught:
            agree_ok(comm, ValueError(f"from {comm.rank}") if comm.rank > 0 else None)
        others = list(range(2, comm.size))
        text = f" (and ranks {others}): " if others else ": "
        want = f"rank 1 of {comm.size} failed{text}ValueError: from 1"
        assert_on_all_ranks(comm, str(caught.value) == want, str(caught.value))

    on_ranks(unless_alone(body))


def test_an_error_without_text_still_fails(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        with pytest.raises(RankFailed, match=r"rank 0 of \d failed: MemoryError"):
            agree_ok(comm, MemoryError() if comm.rank == 0 else None)

    on_ranks(unless_alone(body))


def test_text_that_is_no_unicode_can_be_agreed_on(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        with pytest.raises(RankFailed, match="no file"):
            agree_ok(comm, OSError("no file \udce4") if comm.rank == 0 else None)

    on_ranks(unless_alone(body))


@given(value=st.one_of(st.binary(max_size=8), st.text(max_size=8)))
def test_equal_values_agree(on_ranks: OnRanks, value: bytes | str) -> None:
    on_ranks(lambda comm: agree_same(comm, value, "the value"))


def test_the_ranks_that_differ_are_named(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        if comm.size < 3:
            return  # two values of two ranks: neither is the usual one
        value = "odd" if comm.rank == 0 else "usual"
        with pytest.raises(PlanMismatch) as caught:
            agree_same(comm, value, "the digest")
        want = (
            "the digest is not the same on all ranks: ranks [0] differ from rank 1: "
            "'odd' on rank 0, 'usual' on rank 1."
        )
        assert_on_all_ranks(comm, str(caught.value).startswith(want), str(caught.value))

    on_ranks(body)


def test_long_values_are_shortened(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        with pytest.raises(PlanMismatch, match=r"\.\.\. \(5000 bytes\)") as caught:
            agree_same(comm, str(comm.rank % 10) * 5000, "the plan")
        assert_on_all_ranks(comm, len(str(caught.value)) < 1000)

    on_ranks(unless_alone(body))


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        ([b"a", b"a", b"a"], ()),
        ([b"a", b"b"], (1,)),
        ([b"a", b"b", b"b"], (0,)),
        ([b"a", b"b", b"c"], (1, 2)),
        ([], ()),
    ],
)
def test_the_majority_is_right_and_ties_go_to_the_lowest_rank(
    on_ranks: OnRanks, values: list[bytes], odd: tuple[int, ...]
) -> None:
    assert odd_ranks(values) == odd


def test_the_first_different_line_is_found(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        same = first_difference(comm, ["a", "b"])
        last = comm.size - 1
        found = first_difference(comm, ["a", f"b{comm.rank == last}", f"c{comm.rank}"])
        want = f"ranks [{last}] differ from rank 0: 'bTrue' there, 'bFalse' on rank 0"
        assert_on_all_ranks(comm, same is None and found == want, f"{found}")

    on_ranks(unless_alone(body))


def test_a_missing_line_is_a_difference(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        found = first_difference(comm, ["a"] if comm.rank == 1 else ["a", "b"])
        want = "ranks [1] differ from rank 0: nothing there, 'b' on rank 0"
        assert_on_all_ranks(comm, found == want, f"{found}")

    on_ranks(unless_alone(body))
