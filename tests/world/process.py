"""One MPI world of pytest processes: started, watched, asked where it is, ended."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from world.records import RankLog, records_path, stack_path

from parallel_params.comm.failure import is_shown
from parallel_params.comm.launch_env import (
    find_mpiexec,
    local_world_environment,
    mpiexec_family,
)

POLL_S = 0.01
# How long a world may take to leave when it is told to.
_LEAVE_S = 3.0
_HELPERS = Path(__file__).parent.parent
_FRAME = re.compile(r'  File "(?P<file>.*)", line \d+ in .*')


class NoLauncherError(Exception):
    """There is no mpiexec beside this Python and none on PATH."""


class WorldProcess:
    """A running world: `num_ranks` processes of pytest under one mpiexec."""

    def __init__(
        self,
        num_ranks: int,
        nodeids: Sequence[str],
        *,
        root: Path,
        options: Sequence[str],
    ) -> None:
        self.num_ranks = num_ranks
        self._temporary = tempfile.TemporaryDirectory(prefix="test-world-")
        self.folder = Path(self._temporary.name)
        self.logs = [
            RankLog(records_path(self.folder, rank)) for rank in range(num_ranks)
        ]
        self._output = self.folder / "output.txt"
        (self.folder / "tests.txt").write_text("".join(f"{id_}\n" for id_ in nodeids))
        command, environ = _command(num_ranks, self.folder, options)
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=root,
                start_new_session=True,
            )
        self.last_news = time.monotonic()

    @property
    def exit_code(self) -> int | None:
        """Of mpiexec; None while the world lives."""
        return self._process.poll()

    def poll(self) -> None:
        """Take in what the ranks have told since the last time."""
        if any([log.read() for log in self.logs]):
            self.last_news = time.monotonic()

    def wait(self, timeout_s: float) -> None:
        """Wait for the world's end, then take in the last news."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.poll()

    def ask_for_stacks(self) -> None:
        """Let every rank write where it is; both MPIs pass the signal on."""
        if self.exit_code is not None:
            return
        self._process.send_signal(signal.SIGUSR1)
        before: list[int] = []
        for _ in range(100):
            time.sleep(2 * POLL_S)
            paths = [stack_path(self.folder, r) for r in range(self.num_ranks)]
            now = [path.stat().st_size if path.exists() else 0 for path in paths]
            if all(now) and now == before:
                return
            before = now

    def stack(self, rank: int) -> str:
        """Return where a rank was when it was asked, or crashed: our frames only."""
        path = stack_path(self.folder, rank)
        if not path.exists():
            return ""
        lines = path.read_text(errors="replace").splitlines()
        first = next((line for line in lines if line.startswith("Fatal")), None)
        frames = [
            line
            for line in lines
            if (found := _FRAME.match(line)) and is_test_frame(found["file"])
        ]
        return "\n".join(([first] if first else []) + frames)

    def output_tail(self) -> str:
        """Return the last lines that the world printed."""
        text = self._output.read_text(errors="replace")
        return "\n".join(text.splitlines()[-40:])

    def end(self) -> None:
        """End every process of the world and remove its folder."""
        if self.exit_code is None:
            self._process.terminate()
            self.wait(_LEAVE_S)
        # Open MPI's ranks have sessions of their own and outlive their launcher.
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for log in self.logs:
                if log.pid:
                    with suppress(ProcessLookupError):
                        os.kill(log.pid, signal.SIGKILL)
            self._process.wait()
        self._temporary.cleanup()


def is_test_frame(filename: str) -> bool:
    """Whether a frame is the test's or the package's, not the runner's or others'."""
    is_runner = Path(filename).parent == Path(__file__).parent
    return is_shown(filename) and not is_runner and "/pytest/" not in filename


def _command(
    num_ranks: int, folder: Path, options: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    mpiexec = find_mpiexec(sys.executable, os.environ)
    if mpiexec is None:
        raise NoLauncherError(
            "No MPI library found. Either pip install 'parallel-params[mpich]' or load "
            "your site's MPI module; --world-sizes= runs the tests without worlds."
        )
    environ = dict(os.environ)
    environ |= local_world_environment(
        mpiexec_family(mpiexec),
        num_ranks=num_ranks,
        num_cores=len(os.sched_getaffinity(0)),
        is_root=os.geteuid() == 0,
        environ=os.environ,
    )
    # Ranks that write the same cached bytecode at once have been seen to tear it.
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    paths = [str(_HELPERS), environ.get("PYTHONPATH", "")]
    environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [str(mpiexec), "-n", str(num_ranks), sys.executable, "-m", "pytest"]
    command += ["-p", "world.plugin", "--with-mpi", "-x", "-q", "--tb=short"]
    command += ["-o", "faulthandler_timeout=0", f"--world-folder={folder}"]
    command += [*options, f"@{folder / 'tests.txt'}"]
    return command, environ
