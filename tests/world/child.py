"""Inside a test world: reports what happens on this rank, ends the world on failure.

Also at work under `mpirun -n 3 python -m pytest --with-mpi`, where nobody reads the
reports and a person reads the terminal.
"""

import atexit
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

import numpy as np
import pytest
from world.records import Event, Record, records_path, stack_path, write_record

from parallel_params.comm.failure import describe_failure
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import RankFailed

# Time for the other ranks to write reports of their own, and for the parent to ask
# them where they are, before the world ends.
GRACE_S = 0.3
# How long a rank whose body has raised waits for the others to finish theirs.
_GATE_S = 0.5


class Child:
    """The plugin of one rank of a test world."""

    def __init__(self, comm: Communicator, folder: Path | None) -> None:
        self.comm = comm
        self._folder = folder
        self._nodeid = ""
        self._stacks: TextIO | None = None
        # Apart from the communicator under test, which a body may leave half used.
        from mpi4py import MPI  # not at the top, where it would start MPI its own way

        self._gate = MPI.COMM_WORLD.Dup()
        self.tell("start", pid=os.getpid())

    def tell(self, event: Event, text: str = "", *, pid: int = 0) -> None:
        """Write one record, if somebody reads them."""
        if self._folder is not None:
            record = Record(event=event, nodeid=self._nodeid, text=text, pid=pid)
            write_record(records_path(self._folder, self.comm.rank), record)

    def pytest_sessionstart(self) -> None:
        """Write stacks where the parent looks, after pytest has set up its own way."""
        if self._folder is not None:
            self._stacks = stack_path(self._folder, self.comm.rank).open("w")
            faulthandler.enable(self._stacks)
            faulthandler.register(signal.SIGUSR1, self._stacks)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the tests of worlds: the others need no second run on every rank."""
        others = [item for item in items if item.get_closest_marker("mpi") is None]
        if others and self.comm.size > 1:
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if item not in others]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say which test runs."""
        self._nodeid = nodeid
        self.tell("begin")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say what became of it; a failed rank is out of step with the others."""
        if report.failed:
            self.fail(f"({report.when})\n{report.longreprtext}")
        elif report.skipped:
            is_xfail = hasattr(report, "wasxfail")
            reason = report.wasxfail if is_xfail else _skip_reason(report)
            self.tell("xfailed" if is_xfail else "skipped", reason)

    def pytest_runtest_logfinish(self) -> None:
        """Say that the test is over on this rank."""
        self.tell("end")

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """End the world if pytest itself has failed here; the others would wait."""
        is_normal = exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        )
        if not is_normal and self.comm.size > 1:
            # Only at exit: pytest has yet to print what went wrong.
            atexit.register(self._abort, f"pytest ended with exit status {exitstatus}")

    def fail(self, text: str) -> None:
        """Report that this rank has failed and end the world."""
        self.tell("failed", text)
        if self.comm.size > 1:
            self._abort(f"{self._nodeid} {text}" if self._folder is None else "")

    def on_ranks(self, body: Callable[[Communicator], object]) -> None:
        """Run a body on this world; no rank leaves it while others are inside."""
        try:
            body(self.comm)
        except BaseException as error:
            self._pass_gate(error)
            raise
        self._pass_gate(None)

    def _pass_gate(self, error: BaseException | None) -> None:
        """Wait until all ranks have left the body; raise if it raised on some only.

        Hypothesis would otherwise run a failed body again, on this rank alone.
        """
        flags = np.zeros(self.comm.size, np.uint8)
        mine = np.array([error is not None], np.uint8)
        request = self._gate.Iallgather(mine, flags)
        deadline = time.monotonic() + _GATE_S
        if error is None:
            request.Wait()
        while error is not None and not request.Test():
            if time.monotonic() > deadline:
                self.fail(f"(call)\n{describe_failure(error)}")
        failed = np.flatnonzero(flags).tolist()
        if error is None and failed:
            text = f"the body raised on ranks {failed} of {self.comm.size}"
            raise RankFailed(text, rank=failed[0])

    def _abort(self, text: str) -> NoReturn:
        time.sleep(GRACE_S)
        self.comm.abort(text, 1)


def _skip_reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return report.longreprtext


def mute_terminal(config: pytest.Config) -> None:
    """Leave the terminal to rank 0."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter._tw._file = Path(os.devnull).open("w")  # noqa: SIM115 - till the end
