"""The world runner judged on tests that are bad on purpose, in a pytest of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from world.launch import HELPERS

# One pytest with several worlds: seconds, however fast the machine.
pytestmark = pytest.mark.slow

BAD_TESTS = """
import os, signal
import pytest

pytestmark = pytest.mark.mpi

def test_first(world):
    world.barrier()

@pytest.mark.mpi(min_size=2)
def test_unhappy(world):
    assert world.rank != 1, "rank 1 is unhappy"
    world.barrier()  # of rank 0

@pytest.mark.mpi(min_size=2)
def test_hang(world):
    if world.rank == 0:
        world.barrier()
        os.read(os.pipe()[0], 1)  # of rank 0
    else:
        world.barrier()
        world.barrier()  # of rank 1

@pytest.mark.mpi(min_size=2)
def test_crash(world):
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGSEGV)  # of rank 1
    world.barrier()

@pytest.mark.mpi(min_size=2)
def test_body_raises_on_one_rank(on_ranks):
    def body(comm):
        if "MPI" in comm.description and comm.rank == 1:
            raise ValueError("only here")
        comm.barrier()
    on_ranks(body)

@pytest.mark.mpi(min_size=3)
def test_too_small_a_world(world):
    raise AssertionError("must not run on 2 ranks")

def test_skipped(world):
    pytest.skip("for a reason")

@pytest.mark.xfail(strict=True)
def test_expected_to_fail(world):
    assert world.size == 0

def test_last(world):
    world.barrier()
"""


def run_pytest(folder: Path, *options: str) -> str:
    """Run a pytest with the world runner on a folder and return what it prints."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    paths = [str(HELPERS), str(HELPERS.parent)]
    command = [sys.executable, "-m", "pytest", "-p", "world.plugin", "-rA", *options]
    end = subprocess.run(
        [*command, str(folder)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return end.stdout + end.stderr


def line_of(comment: str, test: str) -> int:
    """The line number of `# comment` in a test."""
    start = BAD_TESTS.index(f"def {test}")
    return BAD_TESTS[: BAD_TESTS.index(comment, start)].count("\n") + 1


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "test_bad.py").write_text(BAD_TESTS)
    return run_pytest(folder, "--world-sizes=2", "--world-timeout=3")


def section(report: str, test: str) -> str:
    """The part of the report about one failed test."""
    found = re.search(rf"\n_+ {test}\[2 ranks\] _+\n(.*?)(?=\n[_=]{{4}})", report, re.S)
    assert found is not None, report
    return found[1]


def test_every_test_gets_its_own_verdict(report: str) -> None:
    words = "PASSED|FAILED|SKIPPED|XFAIL"
    found = re.findall(rf"^({words}) .*?test_bad.py::(\w+)(\S* ranks\])?", report, re.M)
    worlds = {name: word for word, name, world in found if world}
    assert worlds == {
        "test_first": "PASSED",
        "test_unhappy": "FAILED",
        "test_hang": "FAILED",
        "test_crash": "FAILED",
        "test_body_raises_on_one_rank": "FAILED",
        "test_expected_to_fail": "XFAIL",
        "test_last": "PASSED",
    }
    assert ("PASSED", "test_body_raises_on_one_rank", "") in found
    assert "for a reason" in report
    assert "test_too_small_a_world" not in report


def test_the_failing_rank_is_named_and_the_waiting_one_too(report: str) -> None:
    text = section(report, "test_unhappy")
    assert "rank 1 of 2 FAILED" in text
    assert "AssertionError: rank 1 is unhappy" in text
    assert "rank 0 of 2 DID NOT FINISH" in text
    assert f"line {line_of('# of rank 0', 'test_unhappy')} in test_unhappy" in text


def test_a_hang_shows_the_line_of_every_rank(report: str) -> None:
    text = section(report, "test_hang")
    assert text.count("DID NOT FINISH (no news for 3 s; stuck in)") == 2
    for rank in (0, 1):
        line = line_of(f"# of rank {rank}", "test_hang")
        assert f"line {line} in test_hang" in text


def test_a_crash_shows_where(report: str) -> None:
    text = section(report, "test_crash")
    assert "the world ended by itself, exit code" in text
    assert "Fatal Python error: Segmentation fault" in text
    assert f"line {line_of('# of rank 1', 'test_crash')} in test_crash" in text


def test_a_body_that_raises_on_one_rank_does_not_hang(report: str) -> None:
    text = section(report, "test_body_raises_on_one_rank")
    assert "rank 1 of 2 FAILED" in text
    assert "ValueError: only here" in text
    assert "no news" not in text


def test_frames_of_the_machinery_are_left_out(report: str) -> None:
    text = section(report, "test_hang")
    files = {Path(name).name for name in re.findall(r'File "(.*?)"', text)}
    assert files == {"test_bad.py", "mpi.py"}


def test_deselected_tests_open_no_world(tmp_path: Path) -> None:
    (tmp_path / "test_bad.py").write_text(BAD_TESTS)
    found = run_pytest(tmp_path, "-k", "nothing_like_this")
    assert "9 deselected" in found
    assert "ranks]" not in found


def test_a_file_that_cannot_be_imported_is_reported(tmp_path: Path) -> None:
    # In the parent it is fine: only in a world it is not.
    (tmp_path / "test_bad.py").write_text(
        "import os, pytest\n"
        "assert 'PMI_SIZE' not in os.environ, 'not in a world'\n"
        "assert 'OMPI_COMM_WORLD_SIZE' not in os.environ, 'not in a world'\n"
        "@pytest.mark.mpi\n"
        "def test_fine(world): pass\n"
    )
    found = run_pytest(tmp_path, "--world-sizes=2")
    assert "the world ended by itself" in found
    assert "AssertionError: not in a world" in found
