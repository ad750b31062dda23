"""No crash at any operation of a save loses the newest whole checkpoint.

A save is recorded operation by operation. Then, for every operation, the disk is made
as a crash right behind it may leave it, and the newest checkpoint is read from there.
"""

import errno
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from odd_nets import policy_of
from recorded_files import WAYS, Operation, RecordedFiles, after_crash, lay_out
from saved_states import tensors_in

from parallel_params import optim
from parallel_params.checkpoint.checkpointer import Checkpointer
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.folder import remove_left_over
from parallel_params.checkpoint.manifest import Layout
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.saving import make_folders, named
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.tensor import Tensor

Recording = tuple[list[Operation], Mapping[int, Mapping[str, bytes]]]


@pytest.fixture(
    scope="module",
    params=itertools.product((1, 2, 4), (False, True), get_args(Layout)),
    ids=lambda each: f"{each[0]}-{'async' if each[1] else 'sync'}-{each[2]}",
)
def recording(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    """Save after steps 1, 2 and 3, keeping two; return operations and tensors."""
    num_ranks, is_asynchronous, layout = request.param
    root = tmp_path_factory.mktemp("recorded")
    files = RecordedFiles(root)
    contents: dict[int, Mapping[str, bytes]] = {}

    def body(comm: Communicator) -> None:
        # Cut inside of a row, so that ranks hand over elements.
        values = np.arange(6, dtype=np.float32).reshape(3, 2)
        parameter = Parameter(Tensor(values), name="w")
        manager = ParameterManager(
            [parameter],
            optim.Momentum([parameter], 0.1, 0.9),
            comm=comm,
            policy=policy_of(2),
        )
        keeper = Checkpointer(
            root / "kept",
            keep=2,
            asynchronous=is_asynchronous,
            layout=layout,
            files=files,
        )
        for step in (1, 2, 3):
            manager.update({"w": np.ones((3, 2))})
            saved = keeper.save(manager)
            manager.update({"w": np.ones((3, 2))})  # must not be seen in what is saved
            keeper.finish(comm)
            if comm.rank == 0:
                contents[step] = tensors_in(saved.path)
            comm.barrier()
            keeper.load(manager)

    run_threads(num_ranks, body)
    return files.operations, contents


def crashes(
    operations: list[Operation], folder: Path, ways: Sequence[str] = WAYS
) -> Iterator[tuple[int, Path]]:
    """Yield every operation, and every different disk that a crash there may leave."""
    seen: set[frozenset[tuple[str, bytes | None]]] = set()
    for number, way in itertools.product(range(len(operations)), ways):
        disk = after_crash(operations[: number + 1], way)
        key = frozenset(disk.items())
        if key not in seen:
            seen.add(key)
            lay_out(disk, folder / str(len(seen)))
            yield number, folder / str(len(seen)) / "kept"


def newest_or_none(folder: Path) -> Path | None:
    return Checkpointer(folder).newest()


def test_the_newest_whole_checkpoint_survives_a_crash_at_any_operation(
    recording: Recording, tmp_path: Path
) -> None:
    operations, contents = recording
    committed = [
        number
        for number, operation in enumerate(operations)
        if operation.like == "rename" and operation.target == "kept/step-000001"
    ]
    seen = set()
    for number, kept in crashes(operations, tmp_path):
        newest = newest_or_none(kept)
        # The rename counts from the sync of its folder on.
        if number > committed[0] + 1 or newest is not None:
            assert newest is not None, number
            step = Reader.open(newest).manifest.step
            assert tensors_in(newest) == contents[step], number
            seen.add(step)
    assert seen == {1, 2, 3}


def test_a_later_checkpoint_is_never_given_up_for_an_earlier_one(
    recording: Recording, tmp_path: Path
) -> None:
    operations, _ = recording
    newest = 0
    for number, kept in crashes(operations, tmp_path, ["nonames"]):
        if (path := newest_or_none(kept)) is not None:
            step = Reader.open(path).manifest.step
            assert step >= newest, number
            newest = step
    assert newest == 3


def test_what_a_crash_left_is_removed_at_the_next_start(
    recording: Recording, tmp_path: Path
) -> None:
    operations, contents = recording
    num_left = 0
    for _, kept in crashes(operations, tmp_path, ["kill"]):
        num_left += len(remove_left_over(Files(), kept))
        if kept.exists():
            names = {path.name for path in kept.iterdir()}
            assert names <= {"latest", *(f"step-00000{step}" for step in contents)}
    assert num_left > 0


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "make room, or save to another folder"),
        (errno.EACCES, "let this user write there"),
        (errno.EROFS, "let this user write there"),
        (errno.ENOENT, "removed or renamed while the run went on"),
        (errno.EIO, "; save to another folder"),
    ],
)
def test_what_hinders_a_save_is_told_with_its_own_remedy(
    code: int, remedy: str
) -> None:
    place = Path("run/checkpoints/step-000010.tmp")
    told = str(named(OSError(code, os.strerror(code), str(place)), place))
    assert f"{place} cannot be written: {os.strerror(code)}" in told
    assert remedy in told
    assert ("room" in told) == (code == errno.ENOSPC)


class Raced(Files):
    """Another worker makes each folder just before."""

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        super().make_folder(path)


def test_workers_may_make_the_same_folders_at_once(tmp_path: Path) -> None:
    make_folders(Raced(), tmp_path / "run" / "kept")
    assert (tmp_path / "run" / "kept").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folders(Files(), tmp_path / "file")
