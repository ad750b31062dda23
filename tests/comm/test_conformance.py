"""What every communicator must do, on threads and in MPI worlds alike."""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranked import OnRanks, assert_on_all_ranks

from parallel_params.comm.buffers import offsets_of
from parallel_params.comm.protocol import Buffer, Communicator, ReduceOp
from parallel_params.errors import CommunicationError

pytestmark = pytest.mark.mpi

DType: TypeAlias = np.dtype[np.generic]
Shape: TypeAlias = tuple[int, ...]

NAMES = ("float32", "float64", "int8", "uint16", "int64", "complex128", "bool")
ALL_DTYPES = [*(np.dtype(name) for name in NAMES), np.dtype(ml_dtypes.bfloat16)]
SUMMABLE = [np.dtype(name) for name in ("float32", "float64", "int32", "int64")]


def numbers(dtype: DType, numel: int, *, seed: int) -> Buffer:
    """[numel] values that any rank can make: whole numbers, exact in every dtype."""
    return ((np.arange(numel) * 7 + seed * 13) % 61).astype(dtype)


def counts_for(size: int, pattern: Sequence[int]) -> list[int]:
    return list(itertools.islice(itertools.cycle(pattern), size))


def same(left: Buffer, right: Buffer) -> bool:
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


def test_rank_and_size_number_the_ranks(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        ranks = comm.all_gather_bytes(str(comm.rank).encode())
        ok = ranks == [str(rank).encode() for rank in range(comm.size)]
        assert_on_all_ranks(comm, ok, f"found {ranks}")

    on_ranks(body)


def test_description_names_the_number_of_ranks(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        kind = "ranks?" if "MPI" in comm.description else "threads?"
        ok = re.search(rf"\b{comm.size} {kind}$", comm.description) is not None
        assert_on_all_ranks(comm, ok, comm.description)

    on_ranks(body)


def test_barrier_lets_all_pass(on_ranks: OnRanks) -> None:
    on_ranks(lambda comm: comm.barrier())


def judge_cases(comm: Communicator, problems: Iterable[str]) -> None:
    """One verdict over many cases; a case that is right has an empty problem."""
    wrong = [problem for problem in problems if problem]
    assert_on_all_ranks(comm, not wrong, "; ".join(wrong))


def test_broadcast_gives_roots_bytes_to_all(on_ranks: OnRanks) -> None:
    def problem(comm: Communicator, dtype: DType, root: int, shape: Shape) -> str:
        numel = int(np.prod(shape))
        buffer = numbers(dtype, numel, seed=comm.rank).reshape(shape)
        comm.broadcast(buffer, root=root)
        is_right = same(buffer.reshape(-1), numbers(dtype, numel, seed=root))
        return "" if is_right else f"root {root} {shape} {dtype}: {buffer}"

    def body(comm: Communicator) -> None:
        cases = itertools.product(ALL_DTYPES, range(comm.size), [(), (3, 4), (0,)])
        judge_cases(comm, (problem(comm, *case) for case in cases))

    on_ranks(body)


@pytest.mark.parametrize("pattern", [(4,), (0, 3), (5, 0, 0, 1), (0,)], ids=str)
def test_all_gather_completes_the_buffer(
    on_ranks: OnRanks, pattern: tuple[int, ...]
) -> None:
    def problem(comm: Communicator, dtype: DType) -> str:
        counts = counts_for(comm.size, pattern)
        starts = offsets_of(counts)
        whole = numbers(dtype, starts[-1], seed=1)
        buffer = np.zeros_like(whole)
        mine = slice(starts[comm.rank], starts[comm.rank + 1])
        buffer[mine] = whole[mine]
        comm.all_gather(buffer, counts)
        return "" if same(buffer, whole) else f"{dtype}: {buffer} is not {whole}"

    on_ranks(lambda comm: judge_cases(comm, (problem(comm, d) for d in ALL_DTYPES)))


@pytest.mark.parametrize("factor", [0, 1, 3])
def test_all_to_all_delivers_each_segment(on_ranks: OnRanks, factor: int) -> None:
    def count(sender: int, receiver: int) -> int:
        return factor * ((sender + 2 * receiver) % 3)

    def segment(dtype: DType, sender: int, receiver: int) -> Buffer:
        return numbers(dtype, count(sender, receiver), seed=10 * sender + receiver)

    def problem(comm: Communicator, dtype: DType) -> str:
        others = range(comm.size)
        send = np.concatenate([segment(dtype, comm.rank, other) for other in others])
        want = np.concatenate([segment(dtype, other, comm.rank) for other in others])
        got = np.zeros_like(want)
        comm.all_to_all(
            send,
            [count(comm.rank, other) for other in others],
            got,
            [count(other, comm.rank) for other in others],
        )
        return "" if same(got, want) else f"{dtype}: {got} is not {want}"

    on_ranks(lambda comm: judge_cases(comm, (problem(comm, d) for d in ALL_DTYPES)))


@pytest.mark.parametrize("pattern", [(4,), (0, 3), (0,)], ids=str)
def test_a_started_all_gather_completes_the_buffer(
    on_ranks: OnRanks, pattern: tuple[int, ...]
) -> None:
    def problem(comm: Communicator, dtype: DType) -> str:
        counts = counts_for(comm.size, pattern)
        starts = offsets_of(counts)
        whole = numbers(dtype, starts[-1], seed=1)
        buffer = np.zeros_like(whole)
        mine = slice(starts[comm.rank], starts[comm.rank + 1])
        buffer[mine] = whole[mine]
        pending = comm.start_all_gather(buffer, counts)
        pending.wait()
        pending.wait()
        return "" if same(buffer, whole) else f"{dtype}: {buffer} is not {whole}"

    on_ranks(lambda comm: judge_cases(comm, (problem(comm, d) for d in ALL_DTYPES)))


@pytest.mark.mpi
def test_nothing_to_receive_beside_what_is_sent_is_no_exchange_in_place(
    on_ranks: OnRanks,
) -> None:
    """An empty part of an array lies where it starts, and so does what is sent."""

    def body(comm: Communicator) -> None:
        memory, others = np.full(8, float(comm.rank)), [0] * (comm.size - 1)
        is_first = comm.rank == 0
        received = np.zeros(8 * comm.size) if is_first else memory[8:8]
        counts = [8] * comm.size if is_first else [0, *others]
        comm.start_all_to_all(memory, [8, *others], received, counts).wait()
        comm.start_all_gather(memory, [8, *others]).wait()
        expected = np.repeat(np.arange(float(comm.size)), 8)
        ok = not is_first or np.array_equal(received, expected)
        assert_on_all_ranks(comm, ok and not memory.any())

    on_ranks(body)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_started_exchanges_may_be_waited_for_in_any_order(
    on_ranks: OnRanks, order: tuple[int, ...]
) -> None:
    def body(comm: Communicator) -> None:
        size, ones = comm.size, [2] * comm.size
        sends = [numbers(np.dtype("i8"), 2 * size, seed=i) + comm.rank for i in order]
        recvs = [np.zeros_like(send) for send in sends]
        pending = [
            comm.start_all_to_all(send, ones, recv, ones)
            for send, recv in zip(sends, recvs, strict=True)
        ]
        # Others may travel between the start and the end.
        comm.barrier()
        told = comm.all_gather_bytes(b"x")
        # Every rank in an order of its own.
        for place in order[comm.rank % 3 :] + order[: comm.rank % 3]:
            pending[place].wait()
        mine = slice(2 * comm.rank, 2 * comm.rank + 2)
        wants = [
            np.concatenate([send[mine] - comm.rank + other for other in range(size)])
            for send in sends
        ]
        ok = all(same(got, want) for got, want in zip(recvs, wants, strict=True))
        assert_on_all_ranks(comm, ok and told == [b"x"] * size, f"{recvs} {wants}")

    on_ranks(body)


@pytest.mark.parametrize("op", ["sum", "min", "max"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,)], ids=str)
def test_all_reduce_combines_in_place(
    on_ranks: OnRanks, op: ReduceOp, shape: Shape
) -> None:
    def problem(comm: Communicator, dtype: DType) -> str:
        numel = int(np.prod(shape))
        each = np.stack([numbers(dtype, numel, seed=r) for r in range(comm.size)])
        want = getattr(np, op)(each, axis=0).astype(dtype)
        buffer = each[comm.rank].reshape(shape).copy()
        comm.all_reduce(buffer, op=op)
        return "" if same(buffer.reshape(-1), want) else f"{buffer} is not {want}"

    on_ranks(lambda comm: judge_cases(comm, (problem(comm, d) for d in SUMMABLE)))


@pytest.mark.parametrize("pattern", [(4,), (0, 3), (0,)], ids=str)
def test_reduce_scatter_keeps_the_own_part_of_the_sum(
    on_ranks: OnRanks, pattern: tuple[int, ...]
) -> None:
    def problem(comm: Communicator, dtype: DType) -> str:
        counts = counts_for(comm.size, pattern)
        starts = offsets_of(counts)
        each = [numbers(dtype, starts[-1], seed=rank) for rank in range(comm.size)]
        total = np.stack(each).sum(axis=0).astype(dtype)
        want = total[starts[comm.rank] : starts[comm.rank + 1]]
        buffer, out = each[comm.rank].copy(), np.zeros_like(want)
        comm.reduce_scatter(buffer, counts, out)
        is_right = same(out, want) and same(buffer, each[comm.rank])
        return "" if is_right else f"{out} is not {want}, or the input changed"

    on_ranks(lambda comm: judge_cases(comm, (problem(comm, d) for d in SUMMABLE)))


@given(payload=st.binary(max_size=9))
def test_all_gather_bytes_keeps_ragged_payloads(
    on_ranks: OnRanks, payload: bytes
) -> None:
    def body(comm: Communicator) -> None:
        answers = comm.all_gather_bytes(payload * comm.rank)
        ok = answers == [payload * rank for rank in range(comm.size)]
        assert_on_all_ranks(comm, ok, f"found {answers!r}")

    on_ranks(body)


def test_a_sum_is_repeatable_in_one_world(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        mine = np.random.default_rng(comm.rank).standard_normal(101)
        first, second = mine.copy(), mine.copy()
        comm.all_reduce(first)
        comm.all_reduce(second)
        assert_on_all_ranks(comm, same(first, second), "the same sum has other bits")

    on_ranks(body)


def test_groups_number_their_ranks_as_listed(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        # Every second rank, backwards: not the order of the world.
        ranks = [r for r in range(comm.size) if r % 2 == comm.rank % 2][::-1]
        group = comm.group(ranks)
        found = [int(answer) for answer in group.all_gather_bytes(b"%d" % comm.rank)]
        ok = found == ranks and ranks[group.rank] == comm.rank
        ok = ok and group.size == len(ranks)
        group.close()
        assert_on_all_ranks(comm, ok, f"found {found}, asked for {ranks}")

    on_ranks(body)


def test_groups_of_groups_and_of_one_work(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        backwards = comm.group(range(comm.size)[::-1])
        alone = backwards.group([backwards.rank])
        alone.barrier()
        answers = alone.all_gather_bytes(b"%d" % comm.rank)
        ok = answers == [b"%d" % comm.rank] and alone.size == 1
        alone.close()
        backwards.close()
        assert_on_all_ranks(comm, ok, f"found {answers!r}")

    on_ranks(body)


def test_two_groups_of_the_same_ranks_stay_apart(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        first, second = (comm.group(range(comm.size)) for _ in range(2))
        answers = second.all_gather_bytes(b"2"), first.all_gather_bytes(b"1")
        ok = answers == ([b"2"] * comm.size, [b"1"] * comm.size)
        assert_on_all_ranks(comm, ok, f"found {answers}")
        first.close()
        second.close()

    on_ranks(body)


def read_only(buffer: Buffer) -> Buffer:
    buffer.flags.writeable = False
    return buffer


# Each is refused before the other ranks hear of it, so they need not take part.
BAD_CALLS = {
    "strides": lambda comm: comm.broadcast(np.zeros(4)[::2]),
    "read-only": lambda comm: comm.broadcast(read_only(np.zeros(4))),
    "objects": lambda comm: comm.broadcast(np.array([None])),
    "root": lambda comm: comm.broadcast(np.zeros(1), root=comm.size),
    "one count per rank": lambda comm: comm.all_gather(np.zeros(9), [3] * 9),
    "negative": lambda comm: comm.all_gather(np.zeros(9), [-1] * comm.size),
    "1-D buffer of": lambda comm: comm.all_gather(
        np.zeros(comm.size + 1), [1] * comm.size
    ),
    "1-D buffer": lambda comm: comm.all_gather(
        np.zeros((comm.size, 1)), [1] * comm.size
    ),
    "both must be the same": lambda comm: comm.all_to_all(
        np.zeros(comm.size), [1] * comm.size, np.zeros(comm.size, "i8"), [1] * comm.size
    ),
    "start_all_to_all: sends": lambda comm: comm.start_all_to_all(
        np.zeros(comm.size), [1] * comm.size, np.zeros(comm.size, "i8"), [1] * comm.size
    ),
    "start_all_gather: a count is negative": lambda comm: comm.start_all_gather(
        np.zeros(9), [-1] * comm.size
    ),
    "add float32": lambda comm: comm.all_reduce(np.zeros(3, np.float16)),
    r"\(out\)": lambda comm: comm.reduce_scatter(
        np.zeros(comm.size), [1] * comm.size, np.zeros(2)
    ),
    "different ranks": lambda comm: comm.group([comm.rank, comm.rank]),
    "different ranks of": lambda comm: comm.group([comm.rank, comm.size]),
    "NumPy array": lambda comm: comm.broadcast([1.0]),
}


@pytest.mark.parametrize("words", BAD_CALLS)
def test_a_buffer_that_cannot_be_sent_is_refused_first(
    on_ranks: OnRanks, words: str
) -> None:
    def body(comm: Communicator) -> None:
        try:
            BAD_CALLS[words](comm)
        except CommunicationError as error:
            found = str(error)
        else:
            found = "nothing was raised"
        assert_on_all_ranks(comm, re.search(words, found) is not None, found)

    on_ranks(body)


def test_a_group_without_the_caller_is_refused(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        others = [rank for rank in range(comm.size) if rank != comm.rank]
        with pytest.raises(CommunicationError, match="no member"):
            comm.group(others)

    on_ranks(body)
