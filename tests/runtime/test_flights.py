"""Messages under way: so many at a time, landed oldest first, in planned memory."""

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_nets import policy_of
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, make_net, share_of

from parallel_params import optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import DONE, Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.memory import NUM_FLIGHTS
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.runtime.flights import Flights
from parallel_params.tensor.tensor import Tensor

# A mean of equal numbers over three ranks; another bucket's numbers are far off.
ROUNDING = 1e-4


class Waiting:
    """A message that writes down when it was waited for."""

    def __init__(self, log: list[str], name: str) -> None:
        self._log, self._name = log, name

    def wait(self) -> None:
        self._log.append(self._name)


def test_a_flight_lands_when_its_place_is_needed_again() -> None:
    log: list[str] = []
    flights = Flights(0)
    for number in range(NUM_FLIGHTS + 1):
        pending = Waiting(log, str(number))
        flights.claim().depart(pending, partial(log.append, f"after {number}"))
    assert log == ["0", "after 0"]
    flights.land_all()
    flights.land_all()
    assert log[2:] == ["1", "after 1", "2", "after 2"]


def test_what_needs_no_memory_goes_beside_what_does() -> None:
    log: list[str] = []
    flights = Flights(8)
    for number in range(NUM_FLIGHTS):
        flights.claim().depart(Waiting(log, f"sum {number}"))
        bare = flights.claim(is_bare=True)
        bare.depart(Waiting(log, f"gather {number}"))
        assert bare.take(np.dtype(np.float32), 0)[0].size == 0
    assert not log
    flights.claim(is_bare=True)
    assert log == ["gather 0"]
    flights.land_all()
    assert log[1:] == ["sum 0", "sum 1", "gather 1"]


def test_what_is_due_at_a_landing_is_done_once() -> None:
    done: list[int] = []
    flight = Flights(8).claim()
    flight.depart(DONE, lambda: done.append(1))
    flight.land()
    flight.land()
    assert done == [1]


@pytest.mark.parametrize("per_node", [1, 2])
@pytest.mark.parametrize("wire", [None, "bfloat16"])
@pytest.mark.parametrize("reduction", ["canonical", "fast"])
def test_flights_fit_into_the_planned_bytes(
    reduction: str, wire: str | None, per_node: int
) -> None:
    def body(comm: Communicator) -> tuple[int, int]:
        net = [
            Parameter(Tensor(np.zeros(numel, np.float32)), name=f"p{numel}")
            for numel in (400, 90, 200)
        ]
        policy = Policy(
            level=Level.STATE,
            bucket_bytes=400,
            alignment=1,
            shard_threshold_bytes=0,
            reduction="fast" if reduction == "fast" else "canonical",
            wire_dtype="bfloat16" if wire and reduction != "fast" else None,
        )
        mesh = Mesh(data=comm.size, ranks_per_node=per_node)
        optimizer = optim.SGD(net, 0.1)
        manager = ParameterManager(net, optimizer, policy=policy, comm=comm, mesh=mesh)
        held = manager.plan.bytes_per_rank(comm.rank)
        flights = manager._open.step._flights._flights
        allocated = sum(flight._memory.nbytes for flight in flights)
        return allocated, held.send + held.receive

    for allocated, planned in run_threads(4, body):
        assert 0 < allocated <= planned


@pytest.mark.mpi
@pytest.mark.parametrize("level", range(4))
def test_large_buckets_arrive_as_they_left(on_ranks: OnRanks, level: int) -> None:
    """Of more bytes than any MPI sends before it is asked: their buffers are in use."""

    def body(comm: Communicator) -> None:
        values = np.random.default_rng(0).standard_normal((4, 60_000), np.float32)
        net = [Parameter(Tensor(v), name=f"p{i}") for i, v in enumerate(values)]
        policy = policy_of(level, bucket_bytes=1, transport="messages")
        optimizer = optim.SGD(net, 0.5)
        with ParameterManager(net, optimizer, policy=policy, comm=comm) as manager:
            for step in range(3):
                manager.update(
                    {p.name: v + step for p, v in zip(net, values, strict=True)}
                )
            with manager.unsharded():
                ok = all(
                    np.allclose(
                        p.asnumpy(), trained(value), rtol=ROUNDING, atol=ROUNDING
                    )
                    for p, value in zip(net, values, strict=True)
                )
        assert_on_all_ranks(comm, ok)

    def trained(value: NDArray[np.float32]) -> NDArray[np.float32]:
        moved: NDArray[np.float32] = value - np.float32(0.5) * (3 * value + 3)
        return moved

    on_ranks(body)


def test_a_failed_loss_leaves_nothing_under_way() -> None:
    def body(comm: Communicator) -> bool:
        net = make_net()
        policy = policy_of(2, transport="messages")
        with ParameterManager(net, adamw(net), policy=policy, comm=comm) as manager:
            batch = share_of(comm, *global_batch(4))

            def broken(x: Tensor, y: Tensor) -> Tensor:
                raise ValueError("no loss")

            with pytest.raises(RuntimeError):
                manager.step(broken if comm.rank else loss_of(net), *batch)
            flights = manager._open.step._flights._flights
            return all(flight._pending is None for flight in flights)

    assert all(run_threads(2, body))
