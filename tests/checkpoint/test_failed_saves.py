"""What cannot be saved is refused with the reason, on all ranks, and harms nothing."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from ranked import assert_on_all_ranks
from saved_states import (
    make_manager,
    manager_of,
    save_trained,
    tensors_in,
    weight,
)

from parallel_params.checkpoint.checkpointer import Checkpointer
from parallel_params.checkpoint.files import Files
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointNotSaved,
)


class FullDisk(Files):
    """Refuses one kind of operation from the n-th on."""

    def __init__(self, method: str, number: int = 0, code: int = errno.ENOSPC) -> None:
        self._left = number

        def refuse(*arguments: object) -> object:
            self._left -= 1
            if self._left < 0:
                raise OSError(code, os.strerror(code))
            return getattr(super(FullDisk, self), method)(*arguments)

        setattr(self, method, refuse)


@pytest.mark.parametrize(
    ("method", "number", "code"),
    [
        ("make_folder", 0, errno.EACCES),
        ("create", 1, errno.EROFS),
        ("resize", 0, errno.EFBIG),
        ("write", 3, errno.ENOSPC),
        ("sync", 2, errno.EIO),
        ("rename", 0, errno.EIO),
        ("sync_folder", 0, errno.EIO),
    ],
)
@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_a_save_that_fails_says_why_on_all_ranks_and_harms_nothing(
    tmp_path: Path, method: str, number: int, code: int, is_asynchronous: bool
) -> None:
    def body(comm: Communicator) -> None:
        manager = manager_of(comm, weight("w", 8))
        good = Checkpointer(tmp_path / "kept")
        good.save(manager, extras={"is": "good"})
        manager.update({"w": np.ones(8)})
        # Every rank has a disk of its own here; the first rank's is full.
        files = FullDisk(method, number, code) if comm.rank == 0 else Files()
        bad = Checkpointer(tmp_path / "kept", asynchronous=is_asynchronous, files=files)
        try:
            bad.save(manager)
            bad.finish(comm)
            text = "no error"
        except CheckpointNotSaved as error:
            text = "" if os.strerror(code) in str(error) else str(error)
        assert_on_all_ranks(comm, not text, text)
        loaded = good.load(manager)
        assert_on_all_ranks(comm, loaded.manifest.extras == {"is": "good"})

    run_threads(2, body)


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    run_threads(2, lambda comm: save_trained(comm, saved))
    before = tensors_in(saved)

    def body(comm: Communicator) -> None:
        manager, _ = make_manager(comm)
        with pytest.raises(CheckpointNotSaved, match="is there already"):
            manager.save(saved)

    run_threads(2, body)
    assert tensors_in(saved) == before


@pytest.mark.parametrize(
    "extras", [{"a": float("nan")}, {"a": {1: 2}}, {"a": object()}, {"a": [1j]}]
)
def test_extras_that_are_no_json_are_refused(
    tmp_path: Path, extras: dict[str, object]
) -> None:
    def body(comm: Communicator) -> None:
        manager = manager_of(comm, weight("w", 8))
        with pytest.raises(CheckpointNotSaved, match="JSON"):
            manager.save(tmp_path / "saved", extras=extras)

    run_threads(2, body)
    assert not (tmp_path / "saved").exists()


def test_half_a_step_is_not_saved(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        w = weight("w", 8)
        manager = manager_of(comm, w)
        manager.accumulate(lambda x: (w * x).sum(), np.ones((2, 1), np.float32))
        with pytest.raises(CheckpointNotSaved, match="accumulated"):
            manager.save(tmp_path / "saved")
        manager.step(lambda x: (w * x).sum(), np.ones((2, 1), np.float32))
        manager.save(tmp_path / "saved")

    run_threads(1, body)


def test_names_that_would_be_one_in_a_file_are_refused(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        own = weight("w", 2, layerwise_parallel=True)
        manager = manager_of(comm, own, weight("w@slice1", 2))
        with pytest.raises(CheckpointNotSaved, match="'w@slice1'"):
            manager.save(tmp_path / "saved")

    run_threads(2, body)
