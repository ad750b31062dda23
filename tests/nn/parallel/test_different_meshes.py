"""Ranks that name different meshes: one error on all of them, under threads and MPI."""

import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, make_net

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanError, PlanMismatch
from parallel_params.manager import ParameterManager
from parallel_params.nn import parallel
from parallel_params.plan.mesh import Mesh


def meshes_of(size: int) -> dict[str, tuple[Mesh, Mesh]]:
    """Return what one rank and the others name, by what is different."""
    usual = Mesh(data=size, model=1)
    return {
        "sizes": (Mesh(data=1, model=size), usual),
        "axes": (Mesh(rows=size, model=1), usual),
        "order": (Mesh(model=1, data=size), usual),
        "batch axes": (Mesh(data=size, model=1, batch_axes=("model",)), usual),
    }


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("what", list(meshes_of(2)))
def test_ranks_of_different_meshes_all_refuse(on_ranks: OnRanks, what: str) -> None:
    def body(comm: Communicator) -> None:
        if comm.size == 1:
            return
        odd, usual = meshes_of(comm.size)[what]
        mesh = odd if comm.rank == comm.size - 1 else usual

        def manage() -> object:
            net = make_net()
            return ParameterManager(net, adamw(net), mesh=mesh, comm=comm)

        for attempt in (lambda: parallel.open_axis(comm, mesh), manage):
            told = ""
            try:
                attempt()
            except PlanMismatch as error:
                told = str(error)
            everybody = set(comm.all_gather_bytes(told.encode()))
            is_right = "mesh" in told and len(everybody) == 1
            assert_on_all_ranks(comm, is_right, f"told {everybody}")

    on_ranks(body)


@pytest.mark.mpi(min_size=2)
def test_a_mesh_that_does_not_fit_is_refused_by_all(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        size = comm.size
        whole = Mesh(data=1, model=size)

        def cut() -> object:
            axis = parallel.open_axis(comm, whole)
            return parallel.ColumnParallelDense(4, 2 * size + 1, axis=axis)

        wrong = {
            "the world has": lambda: parallel.open_axis(comm, Mesh(data=2, model=size)),
            "no axis 'model'": lambda: parallel.open_axis(comm, Mesh(data=size)),
            "equal parts": cut,
        }
        for words, attempt in wrong.items():
            told = words if size == 1 and words == "equal parts" else ""
            try:
                attempt()
            except PlanError as error:
                told = str(error)
            everybody = set(comm.all_gather_bytes(told.encode()))
            is_right = words in told and len(everybody) == 1
            assert_on_all_ranks(comm, is_right, f"told {everybody}")

    on_ranks(body)
