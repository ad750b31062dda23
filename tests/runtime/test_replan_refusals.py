"""A plan that cannot be changed stays, and a step under another one is refused."""

import pytest
from odd_nets import policy_of
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, make_net, share_of

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    ManagerClosed,
    PlanError,
    PlanMismatch,
    PlanOutdated,
    RankFailed,
)
from parallel_params.manager import ParameterManager
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.moves import Moves
from parallel_params.plan.policy import Policy
from parallel_params.runtime import replan
from parallel_params.runtime.moving import Mover


@pytest.mark.mpi
@pytest.mark.parametrize("call", ["step", "accumulate", "value_and_grad", "update"])
def test_a_step_under_flags_that_the_plan_does_not_know_is_refused_on_all_ranks(
    on_ranks: OnRanks, call: str
) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        manager = ParameterManager(net, adamw(net), policy=policy_of(3), comm=comm)
        before = manager.weights_hash()
        weight = next(net.get_parameters())
        odd = comm.size - 1
        errors = []
        for who in (range(comm.size), [odd]):
            if comm.rank in who:
                weight.comm_fusion = 7
            try:
                if call == "update":
                    manager.update({})
                else:
                    batch = share_of(comm, *global_batch(2 * comm.size))
                    getattr(manager, call)(loss_of(net), *batch)
            except (PlanOutdated, RankFailed) as raised:
                errors.append(raised)
            weight.comm_fusion = 1
        # Where all did the same it is nobody's failure.
        words = "comm_fusion of parameter '0.weight' is 7 now, 1 in the plan. Call"
        ok = [type(e).__name__ for e in errors] == [
            "PlanOutdated",
            "PlanOutdated" if comm.size == 1 else "RankFailed",
        ] and all(words in str(error) for error in errors)
        ok = ok and manager.weights_hash() == before
        manager.step(loss_of(net), *share_of(comm, *global_batch(2 * comm.size)))
        assert_on_all_ranks(comm, ok, repr(errors))

    on_ranks(body)


def test_mistakes_are_named_and_leave_the_manager_as_it_was() -> None:
    def refuse(kind: type[Exception], words: str, **asked: object) -> None:
        with pytest.raises(kind, match=words):
            manager.replan(**asked)  # type: ignore[arg-type]

    net = make_net()
    manager = ParameterManager(net, adamw(net), policy=policy_of(1))
    x, y = global_batch(4)
    manager.step(loss_of(net), x, y)
    before, plan = manager.weights_hash(), manager.plan
    refuse(TypeError, "takes a Policy or None, not int", policy=2)
    refuse(TypeError, "takes a Mesh or None, not str", mesh="data")
    refuse(PlanError, "has 2 ranks, the world has 1", mesh=Mesh(data=2))
    refuse(PlanError, "no parameter matches", policy=Policy(override={"head": 0}))
    refuse(TypeError, "takes an optimizer", optimizer=3)
    manager.accumulate(loss_of(net), x, y)
    refuse(PlanError, "wait for the next step")
    manager.step(loss_of(net), x, y)
    with manager.unsharded():
        refuse(PlanError, "inside of manager.unsharded")
    assert manager.plan is plan
    assert manager.num_steps == 2
    assert manager.weights_hash() != before
    manager.close()
    refuse(ManagerClosed, "is closed")


@pytest.mark.mpi(min_size=2)
def test_ranks_that_ask_for_different_plans_all_raise_and_go_on(
    on_ranks: OnRanks,
) -> None:
    def body(comm: Communicator) -> None:
        if comm.size < 3:
            return
        net = make_net()
        manager = ParameterManager(net, adamw(net), policy=policy_of(3), comm=comm)
        weight = next(net.get_parameters())
        odd = comm.size - 1
        errors: list[Exception] = []
        level = 2 if comm.rank == odd else 1
        try:
            manager.replan(policy=policy_of(level))
        except PlanMismatch as raised:
            errors.append(raised)
        weight.requires_grad = comm.rank != odd
        try:
            manager.replan()
        except PlanMismatch as raised:
            errors.append(raised)
        weight.requires_grad = True
        words = [f"rank {odd} differs", "level is 2, not 1", "requires_grad is False"]
        missing = [word for word in words if word not in repr(errors)]
        manager.step(loss_of(net), *share_of(comm, *global_batch(2 * comm.size)))
        assert_on_all_ranks(comm, not missing, f"{missing} not in {errors!r}")

    on_ranks(body)


@pytest.mark.mpi(min_size=2)
def test_a_rank_without_memory_makes_all_raise_and_nothing_has_changed(
    on_ranks: OnRanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        manager = ParameterManager(net, adamw(net), policy=policy_of(2), comm=comm)
        batch = share_of(comm, *global_batch(2 * comm.size))
        manager.step(loss_of(net), *batch)
        before, error = manager.weights_hash(), ""

        def fail(moves: Moves, comm: Communicator) -> Mover:
            if comm.rank == comm.size - 1:
                raise MemoryError("no room")
            return Mover(moves, comm)

        with pytest.MonkeyPatch.context() as patch:
            # Threads share the module, so the last one to leave puts it right.
            comm.barrier()
            patch.setattr(replan, "Mover", fail)
            comm.barrier()
            try:
                manager.replan(policy=policy_of(3))
            except (RankFailed, MemoryError) as raised:
                error = str(raised)
            comm.barrier()
        monkeypatch.setattr(replan, "Mover", Mover)
        comm.barrier()
        ok = "no room" in error and manager.weights_hash() == before
        manager.replan(policy=policy_of(0))
        ok = ok and manager.weights_hash() == before
        manager.step(loss_of(net), *batch)
        assert_on_all_ranks(comm, ok and manager.weights_hash() != before, error)

    on_ranks(body)
