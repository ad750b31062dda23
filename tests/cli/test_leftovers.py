"""Shared memory of dead worlds goes, of living ones stays."""

import mmap
import os
import socket
from pathlib import Path

import pytest

from parallel_params.cli.leftovers import remove_left_over, remove_sessions

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="needs Linux's /proc"
)


def test_segments_that_nobody_has_are_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = ["mpich_shm_b739dfa_0", "sm_segment.node-7.0.95e10000.0", "vader_segment.a"]
    others = ["psm_12ab", "sem.mine", "mpich_shm_", "my_mpich_shm_1", "data"]
    for name in (*dead, *others, "mpich_shm_open", "sm_segment.mapped"):
        (tmp_path / name).write_bytes(bytes(4096))
    (tmp_path / "mpich_shm_link").symlink_to(tmp_path / "data")
    (tmp_path / "mpich_shm_folder").mkdir()
    with (tmp_path / "sm_segment.mapped").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    with (tmp_path / "mpich_shm_open").open("rb"):
        removed = remove_left_over(tmp_path)
    assert [path.name for path in removed] == sorted(dead)
    kept = {"mpich_shm_link", "mpich_shm_folder", "mpich_shm_open"}
    assert {*os.listdir(tmp_path)} == {*others, *kept, "sm_segment.mapped"}
    mapped.close()
    assert len(remove_left_over(tmp_path)) == 2


def test_where_nothing_is_known_of_processes_nothing_is_removed(
    tmp_path: Path,
) -> None:
    (tmp_path / "mpich_shm_1").touch()
    assert remove_left_over(tmp_path, tmp_path / "nowhere") == []
    assert remove_left_over(tmp_path / "nowhere") == []
    assert (tmp_path / "mpich_shm_1").exists()


def test_folders_of_an_mpiexec_that_has_ended_are_removed_and_nothing_else(
    tmp_path: Path,
) -> None:
    ended = 2**22 + 1  # no process has a larger number than 2**22
    names = [f"ompi.{ended}", f"ompi.{ended + 1}", f"ompi.{os.getpid()}", "ompi.vm.0"]
    for name in names:
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / f"pmix.{socket.gethostname()}.tool").touch()
    (tmp_path / f"ompi.{ended + 2}").mkdir()  # of another host
    (tmp_path / f"ompi.{ended + 3}").symlink_to(tmp_path / names[0])
    held = tmp_path / names[1] / "1" / "jobdata"
    held.write_bytes(bytes(4096))
    with held.open("rb"):
        assert [path.name for path in remove_sessions(tmp_path)] == names[:1]
    left = {*names[1:], f"ompi.{ended + 2}", f"ompi.{ended + 3}"}
    assert {*os.listdir(tmp_path)} == left
    assert [path.name for path in remove_sessions(tmp_path)] == names[1:2]
    assert remove_sessions(tmp_path, tmp_path / "nowhere") == []
    assert remove_sessions(tmp_path / "nowhere") == []
