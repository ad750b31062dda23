"""One MPI world of pytest processes: started, watched, asked where it is, ended."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from world.launch import world_command
from world.records import RankLog, records_path, stack_path

from parallel_params.comm.failure import is_shown

POLL_S = 0.01
# How long a world may take to leave when it is told to.
_LEAVE_S = 3.0
_FRAME = re.compile(r'  File "(?P<file>.*)", line \d+ in .*')


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
        command, environ = world_command(num_ranks, _pytest_args(self.folder, options))
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


def _pytest_args(folder: Path, options: Sequence[str]) -> list[str]:
    return [
        *("-m", "pytest", "-p", "world.plugin", "--with-mpi", "-x"),
        *("-q", "--tb=short", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=0"),
        f"--world-folder={folder}",
        *options,
        f"@{folder / 'tests.txt'}",
    ]
