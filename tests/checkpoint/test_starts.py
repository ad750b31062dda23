"""A state that began later than the run is loaded as of its own age."""

from pathlib import Path

import numpy as np
import pytest

from parallel_params import optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointError
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.tensor import Tensor


def manage(
    comm: Communicator, level: int, *, is_frozen: bool
) -> tuple[list[Parameter], ParameterManager]:
    """Return two parameters, the second frozen or not, and their manager."""
    pair = [Parameter(Tensor(np.ones(9, np.float32)), name=name) for name in "ab"]
    pair[1].requires_grad = not is_frozen
    policy = Policy(level=Level(level), shard_threshold_bytes=0, alignment=1)
    return pair, ParameterManager(
        pair, optim.AdamW(pair, 0.1), policy=policy, comm=comm
    )


def move(manager: ParameterManager, steps: range, names: str) -> None:
    """Take steps on gradients that are functions of the step."""
    for step in steps:
        rng = np.random.default_rng(step)
        gradients = {name: rng.standard_normal(9) for name in "ab"}
        manager.update({name: gradients[name] for name in names})


@pytest.mark.parametrize(("num_ranks", "level"), [(1, 0), (2, 1), (4, 3)])
def test_what_was_unfrozen_goes_on_with_the_bits_of_a_run_that_never_stopped(
    tmp_path: Path, num_ranks: int, level: int
) -> None:
    def straight(comm: Communicator) -> str:
        pair, manager = manage(comm, 2, is_frozen=True)
        move(manager, range(3), "a")
        pair[1].requires_grad = True
        manager.replan()
        move(manager, range(3, 5), "ab")
        manager.save(tmp_path / "whole")
        move(manager, range(5, 8), "ab")
        return manager.weights_hash()

    def resumed(comm: Communicator) -> str:
        _, manager = manage(comm, level, is_frozen=False)
        manager.load(tmp_path / "whole")
        move(manager, range(5, 8), "ab")
        return manager.weights_hash()

    expected = run_threads(2, straight)[0]
    assert run_threads(num_ranks, resumed) == [expected] * num_ranks


def test_a_state_that_starts_anew_counts_from_there(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        _, frozen = manage(comm, 1, is_frozen=True)
        move(frozen, range(4), "a")
        frozen.save(tmp_path / "frozen")
        pair, manager = manage(comm, 1, is_frozen=False)
        manager.load(tmp_path / "frozen")
        move(manager, range(4, 6), "ab")
        fresh, other = manage(comm, 1, is_frozen=False)
        move(other, range(4, 6), "ab")
        np.testing.assert_array_equal(pair[1].asnumpy(), fresh[1].asnumpy())

    run_threads(2, body)


def test_a_state_from_the_future_is_refused(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        _, manager = manage(comm, 1, is_frozen=False)
        manager._course.starts["a"] = 5
        manager.save(tmp_path / "odd")
        with pytest.raises(CheckpointError, match="expected at most 0 steps, got 5"):
            manager.load(tmp_path / "odd")

    run_threads(1, body)
