"""The run folder: made once, agreed on by all ranks, never written over."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from ranked import assert_on_all_ranks, on_threads

from parallel_params.comm.local import run_threads, solo
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import ConfigError, RunFolderError, RunFolderExists
from parallel_params.train.config.job import Run
from parallel_params.train.run_folder import RunFolder, make_run_folder

NOW = datetime(2026, 11, 23, 4, 12, 7)


def test_all_ranks_get_the_folder_that_the_first_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def body(comm: Communicator) -> None:
        # The other ranks' clocks are wrong; nobody asks them.
        now = NOW if comm.rank == 0 else datetime(1999, 1, 1)
        run = Run(name=f"job-{comm.size}")
        found = make_run_folder(run, comm, now).path
        want = Path("runs") / f"job-{comm.size}" / "2026-11-23_041207"
        assert_on_all_ranks(comm, found == want and found.is_dir(), str(found))

    on_threads(body)


def test_two_runs_of_one_second_get_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [make_run_folder(Run(), solo(), NOW).path.name for _ in range(3)]
    assert names == [
        "2026-11-23_041207",
        "2026-11-23_041207-2",
        "2026-11-23_041207-3",
    ]


def test_a_folder_that_is_there_is_refused_on_every_rank(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    run = Run(folder=str(tmp_path))

    def body(comm: Communicator) -> str:
        with pytest.raises(RunFolderExists, match="no run is written over") as caught:
            make_run_folder(run, comm, NOW)
        return str(caught.value)

    messages = run_threads(3, body)
    assert set(messages) == {
        f"run folder {tmp_path} is there already, and no run is written over; give "
        "another run.folder, or move it away"
    }
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_fails_on_every_rank(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    run = Run(folder=str(tmp_path / "file" / "run"))

    def body(comm: Communicator) -> None:
        with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
            make_run_folder(run, comm, NOW)

    run_threads(2, body)


def test_a_folder_whose_name_no_disk_can_hold_is_refused() -> None:
    for name in ("a\0b", "a" * 300):
        with pytest.raises(ConfigError, match=r"run\.folder: .* cannot be made: "):
            make_run_folder(Run(folder=name), solo(), NOW)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, is_writer=True)
    (tmp_path / "plan.json.partial").symlink_to("/dev/full")
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    words = "cannot be written: No space left on device; make room"
    with pytest.raises(RunFolderError, match=words):
        folder.write_text("plan.json", "{}")
    with pytest.raises(RunFolderError, match=words):
        folder.append_json("metrics.jsonl", {"step": 1})


def test_files_appear_whole_and_leave_nothing_beside_them(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, is_writer=True)
    folder.write_json("a.json", {"ö": 1})
    folder.write_bytes("b", b"\0")
    folder.append_json("m.jsonl", {"step": 1})
    folder.append_json("m.jsonl", {"step": 2})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ö": 1}
    lines = (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.json", "b", "m.jsonl"]


def test_a_rank_that_is_no_writer_writes_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "elsewhere", is_writer=False)
    folder.write_text("a", "b")
    folder.append_json("m", {})
    assert list(tmp_path.iterdir()) == []
