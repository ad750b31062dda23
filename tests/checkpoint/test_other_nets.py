"""A checkpoint of another net or optimizer is refused, or what it lacks is named."""

from pathlib import Path

import numpy as np
import pytest
from saved_states import make_manager, manager_of, save_trained, tensors_in, weight

from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointMismatch,
)
from parallel_params.tensor.tensor import Tensor


def test_another_net_is_refused_with_near_names(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        manager_of(comm, weight("head.weight", 3, 2)).save(tmp_path / "one")

        with pytest.raises(CheckpointMismatch, match=r"'head.wieght'.*'head.weight'"):
            manager_of(comm, weight("head.wieght", 3, 2)).load(tmp_path / "one")
        with pytest.raises(
            CheckpointMismatch, match=r"shape \(3, 2\) there and \(2, 3\)"
        ):
            manager_of(comm, weight("head.weight", 2, 3)).load(tmp_path / "one")
        both = manager_of(comm, weight("head.weight", 3, 2), weight("b", 2))
        with pytest.raises(CheckpointMismatch, match="no parameter 'b'"):
            both.load(tmp_path / "one")
        both.save(tmp_path / "two")
        with pytest.raises(CheckpointMismatch, match="does not have: 'b'"):
            manager_of(comm, weight("head.weight", 3, 2)).load(tmp_path / "two")

    run_threads(2, body)


def test_a_partial_load_says_what_it_left_alone(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        manager_of(comm, weight("a", 3), weight("old", 2)).save(tmp_path / "saved")
        here = weight("a", 3)
        here.set_data(Tensor(np.zeros(3, np.float32)))
        manager = manager_of(comm, here, weight("new", 2))
        notes = manager.load(tmp_path / "saved", strict=False).notes
        assert here.asnumpy().tolist() == [1.0, 1.0, 1.0]
        assert any("'new' stays as it is" in note for note in notes), notes
        assert any("not used" in note and "'old'" in note for note in notes), notes

    run_threads(1, body)


def test_another_optimizer_is_refused_but_for_the_weights(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        save_trained(comm, tmp_path / "saved")
        manager, _ = make_manager(comm, 1, seed=5, optimizer="lars")
        with pytest.raises(CheckpointMismatch, match="another optimizer"):
            manager.load(tmp_path / "saved")
        manager.load(tmp_path / "saved", weights_only=True)
        assert manager.num_steps == 0

    run_threads(2, body)


def test_what_was_frozen_starts_anew_and_what_is_frozen_now_is_dropped(
    tmp_path: Path,
) -> None:
    def body(comm: Communicator) -> None:
        first = manager_of(comm, weight("a", 3), weight("b", 3, requires_grad=False))
        first.update({"a": np.ones(3)})
        first.save(tmp_path / "saved")
        second = manager_of(comm, weight("a", 3, requires_grad=False), weight("b", 3))
        second.update({"b": np.ones(3)})
        notes = second.load(tmp_path / "saved").notes
        assert any("'b' starts anew" in note for note in notes), notes
        assert any("'a' is dropped" in note for note in notes), notes
        second.save(tmp_path / "again")
        assert tensors_in(tmp_path / "again")["moments/moments.b"][7:] == bytes(12)

    run_threads(1, body)
