"""An axis gives back its communicator, and says so to cells that come too late."""

import numpy as np
import pytest
from ranked import OnRanks
from world.launch import run_in_world

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CommunicationError
from parallel_params.nn.parallel import open_axis
from parallel_params.plan.mesh import Mesh

TIMEOUT_S = 60.0


def test_a_closed_axis_sends_nothing_and_says_so(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        with open_axis(comm, Mesh(model=comm.size)) as axis:
            ones = np.ones(3, np.float32)
            assert axis.all_reduce(ones, "before").tolist() == [comm.size] * 3
        axis.close()  # once more does nothing
        if comm.size > 1:
            with pytest.raises(CommunicationError, match="axis 'model' is closed"):
                axis.all_reduce(ones, "after")

    on_ranks(body)


def test_an_error_inside_of_the_block_leaves_the_axis_open(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        axis = open_axis(comm, Mesh(model=comm.size))
        if comm.rank == 0:  # the others are elsewhere: closing would wait for them
            with pytest.raises(ZeroDivisionError), axis:
                _ = 1 / 0
        total = axis.all_reduce(np.ones(1, np.float32), "together")
        axis.close()
        assert total[0] == comm.size

    on_ranks(body)


MANY = """
from parallel_params.comm.world import init
from parallel_params.nn.parallel import open_axis
from parallel_params.plan.mesh import Mesh

comm = init()
for _ in range(2100):
    with open_axis(comm, Mesh(model=2)):
        pass
"""


@pytest.mark.slow  # starts an MPI world
def test_thousands_of_axes_can_be_opened_one_after_the_other() -> None:
    # MPICH has room for about 2000 communicators at a time.
    end = run_in_world(2, ["-c", MANY], timeout_s=TIMEOUT_S)
    assert (end.returncode, end.stderr) == (0, "")
