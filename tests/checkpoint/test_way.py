"""MPI-IO on request: the same bytes, errors of one rank on all, refusals."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from odd_nets import policy_of
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, make_net

from parallel_params.checkpoint.checkpointer import Checkpointer
from parallel_params.checkpoint.drafting import Remarks
from parallel_params.checkpoint.files import OpenedFiles
from parallel_params.comm.ledger import Ledger
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.shared_files import FileOpener, SharedFile
from parallel_params.errors import CheckpointNotSaved
from parallel_params.manager import ParameterManager

FULL = Path("/dev/full")


def manage(comm: Communicator) -> ParameterManager:
    net = make_net(1)
    return ParameterManager(net, adamw(net), comm=comm, policy=policy_of(2))


@contextmanager
def folder_of_all(comm: Communicator) -> Iterator[Path]:
    """Make a folder that all ranks see; pytest's own are not for worlds."""
    own = tempfile.mkdtemp().encode() if comm.rank == 0 else b""
    folder = Path(comm.all_gather_bytes(own)[0].decode())
    yield folder
    comm.barrier()
    if comm.rank == 0:
        shutil.rmtree(folder)


def refusal(manager: ParameterManager, folder: Path) -> str:
    try:
        manager.save(folder, way="mpi")
    except CheckpointNotSaved as error:
        return str(error)
    return "it was saved"


@pytest.mark.mpi
def test_mpi_io_writes_the_same_bytes_and_threads_have_none(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        with folder_of_all(comm) as folder:
            check(comm, folder)

    def check(comm: Communicator, folder: Path) -> None:
        manager = manage(comm)
        if Ledger(comm).file_opener is None:
            text = refusal(manager, folder / "mpi")
            assert_on_all_ranks(comm, "no MPI-IO here" in text, text)
            return
        manager.save(folder / "system")
        Checkpointer(folder / "kept", way="mpi").save(manager)
        saved = folder / "kept" / "step-000000"
        names = ("manifest.json", "model.safetensors", "optim.safetensors")
        is_same = [
            (saved / name).read_bytes() == (folder / "system" / name).read_bytes()
            for name in names
        ]
        manager.load(saved)
        assert_on_all_ranks(comm, all(is_same), str(is_same))

    on_ranks(body)


@pytest.mark.mpi
@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_rank_whose_mpi_io_fails_fails_the_save_on_all(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        opener = Ledger(comm).file_opener
        if opener is not None:
            with folder_of_all(comm) as folder:
                check(comm, folder, opener)

    def check(comm: Communicator, folder: Path, opener: FileOpener) -> None:
        def open_here(path: Path) -> SharedFile:
            return opener(FULL if comm.rank == comm.size - 1 else path)

        draft = manage(comm).begin_save(
            folder / "saved",
            Remarks(),
            files=OpenedFiles(open_here),
            serial=1,
            layout="one",
        )
        draft.write()
        text = "it was saved"
        try:
            draft.commit()
        except CheckpointNotSaved as error:
            text = str(error)
        try:
            opener(folder / "nowhere")
            text += "; it was opened"
        except OSError as error:
            text += "" if error.filename == str(folder / "nowhere") else f"; {error}"
        is_right = "/dev/full cannot be written: MPI-IO" in text
        assert_on_all_ranks(comm, is_right and "it was" not in text, text)
        left = list(folder.iterdir())
        assert_on_all_ranks(comm, comm.rank > 0 or not left, str(left))

    on_ranks(body)


def test_what_an_opener_wrote_is_pushed_to_the_disk_by_the_system_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether `MPI_File_sync` does it is up to the MPI."""

    class Written:
        def __init__(self, path: Path) -> None:
            self._file = path.open("r+b", buffering=0)

        def write_at(self, data: memoryview, offset: int) -> None:
            done.append("write")
            os.pwrite(self._file.fileno(), data, offset)

        def sync(self) -> None:
            done.append("sync")

        def close(self) -> None:
            done.append("close")
            self._file.close()

    def fsync(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    done: list[str] = []
    path = tmp_path / "data"
    path.write_bytes(bytes(8))
    monkeypatch.setattr(os, "fsync", fsync)
    files = OpenedFiles(Written)
    descriptor = files.open(path)
    files.write(descriptor, memoryview(b"1234"), 4)
    files.sync(descriptor)
    files.close(descriptor)
    assert done == ["write", "sync", str(path), "close"]
    assert path.read_bytes() == bytes(4) + b"1234"


def test_ways_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotSaved, match="files that ranks share"):
        Checkpointer(tmp_path, layout="shards", way="mpi")
    with pytest.raises(CheckpointNotSaved, match="beside training"):
        Checkpointer(tmp_path, asynchronous=True, way="mpi")
    with pytest.raises(CheckpointNotSaved, match="expected one of system, mpi"):
        Checkpointer(tmp_path, way="nfs")  # type: ignore[arg-type]  # on purpose
