"""A plan that machines have no memory for is refused on all ranks alike."""

from contextvars import ContextVar

import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, make_net

from parallel_params.comm.free_memory import FreeMemory
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanError
from parallel_params.manager import ParameterManager
from parallel_params.plan.policy import Policy
from parallel_params.runtime import room

TIGHT = 1000
# Every rank's own, on threads too.
TOLD: ContextVar[list[FreeMemory]] = ContextVar("what a rank is told")


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "read_free_memory", TOLD.get)


def machine(free_bytes: int) -> FreeMemory:
    return FreeMemory(key="boot", name="the machine m", free_bytes=free_bytes)


def make(comm: Communicator, policy: Policy) -> tuple[str, list[bool]]:
    """Make a manager; return the error, and whether parameters are as they were."""
    net = make_net()
    parameters = net.trainable_params()
    before = [parameter._array for parameter in parameters]
    error = ""
    try:
        ParameterManager(net, adamw(net), comm=comm, policy=policy).close()
    except PlanError as raised:
        error = str(raised)
    pairs = zip(parameters, before, strict=True)
    return error, [parameter._array is array for parameter, array in pairs]


@pytest.mark.mpi
def test_a_machine_without_room_refuses_before_anything_is_allocated(
    on_ranks: OnRanks,
) -> None:
    def body(comm: Communicator) -> None:
        TOLD.set([machine(TIGHT)])
        error, untouched = make(comm, Policy())
        who = f"ranks 0 to {comm.size - 1} together" if comm.size > 1 else "rank 0"
        told = error.startswith(f"{who} would hold ") and "weights" in error
        told = told and "the machine m has" in error and "'unlimited'" in error
        assert_on_all_ranks(comm, told and all(untouched), error)
        texts = comm.all_gather_bytes(error.encode())
        assert_on_all_ranks(comm, len(set(texts)) == 1, repr(texts))

    on_ranks(body)


@pytest.mark.mpi
def test_nobody_is_asked_where_the_policy_says_something(
    on_ranks: OnRanks,
) -> None:
    def body(comm: Communicator) -> None:
        TOLD.set([machine(TIGHT)])
        errors = [
            make(comm, Policy(memory_limit_bytes="unlimited"))[0],
            make(comm, Policy(memory_limit_bytes=1 << 30))[0],
        ]
        assert_on_all_ranks(comm, not any(errors), repr(errors))

    on_ranks(body)


@pytest.mark.mpi
def test_values_that_move_into_the_plan_count_as_free(
    on_ranks: OnRanks,
) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        TOLD.set([])
        plan = ParameterManager(net, adamw(net), comm=comm).plan
        needed = sum(plan.bytes_per_rank(rank).total for rank in range(comm.size))
        held = comm.size * sum(p.nbytes for p in net.trainable_params())
        errors = []
        for free in (needed - held - 1, needed - held):
            TOLD.set([machine(free)])
            errors.append(make(comm, Policy())[0])
        fits = bool(errors[0]) and not errors[1]
        assert_on_all_ranks(comm, fits, f"{needed} {held} {errors}")

    on_ranks(body)


@pytest.mark.mpi(min_size=2)
def test_one_rank_of_a_tight_cgroup_refuses_for_all(
    on_ranks: OnRanks,
) -> None:
    def body(comm: Communicator) -> None:
        small = FreeMemory(key="boot 7", name="the cgroup /c", free_bytes=TIGHT)
        is_last = comm.rank == comm.size - 1
        TOLD.set([machine(1 << 40), *([small] if is_last else [])])
        error, untouched = make(comm, Policy())
        words = f"rank {comm.size - 1} would hold "
        fine = error.startswith(words) and "the cgroup /c has" in error
        assert_on_all_ranks(comm, fine and all(untouched), error)

    on_ranks(body)
