"""Run a world of ranks as a child: pass signals on, leave no orphans, name its end.

Which command that is was decided in `cli/start.py`.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

from parallel_params.cli.ends import STOPPED
from parallel_params.cli.leftovers import tell_and_remove
from parallel_params.cli.start import Start

# How long a world may take to end after Ctrl-C before it is killed.
GRACE_S = 5.0
# And one that saves a checkpoint first: what Slurm leaves between SIGTERM and SIGKILL.
SAVE_GRACE_S = 28.0

# What a rank dies of without us being told; none of them is a code of our own.
_DEADLY = (
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGKILL,
    signal.SIGSEGV,
    signal.SIGTERM,
)
_PR_SET_PDEATHSIG = 1
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# How long a signal may be overlooked, see `_Child._wait`.
_LOOK_S = 0.2


def _die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it is gone.

    Nobody could stop the world of a `pparams` that was killed: it is in a session of
    its own.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _Child:
    """The launcher as a child, and the signals that were meant for it."""

    def __init__(self, grace_s: float, *, is_savable: bool) -> None:
        self.received: list[int] = []
        self._is_savable = is_savable
        self._process: subprocess.Popen[bytes] | None = None
        self._grace_s = grace_s

    def run(self, command: Sequence[str], *, environ: Mapping[str, str]) -> int:
        """Start the launcher, wait for its end and return its code."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=environ,
            # Else Ctrl-C reaches it twice, which both MPIs take for "at once".
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            for number in self.received:  # while it was starting
                self._process.send_signal(self._meant_by(number))
            return self._wait(self._process)
        finally:
            self._kill()

    def _wait(self, process: "subprocess.Popen[bytes]") -> int:
        # Python runs handlers between two of its own steps. A signal that comes right
        # before a call that blocks is therefore kept until that call returns, which
        # waiting for the world alone would never do.
        waiting = threading.Thread(target=process.wait, daemon=True)
        waiting.start()
        while waiting.is_alive():
            waiting.join(_LOOK_S)
        return process.wait()

    def pass_on(self, number: int, _frame: FrameType | None) -> None:
        """Send a signal to the launcher; if it does not end in time, kill its world."""
        is_save = self._is_savable and self._meant_by(number) == signal.SIGUSR1
        is_told = self.received[-1:] == [number]  # its timer is running
        if not is_told and not (is_save and number == signal.SIGUSR1):
            grace_s = SAVE_GRACE_S if is_save else self._grace_s
            timer = threading.Timer(grace_s, self._kill)
            timer.daemon = True
            timer.start()
        self.received.append(number)
        if self._process is not None:
            self._process.send_signal(self._meant_by(number))

    def _meant_by(self, number: int) -> int:
        """Return the signal that a launcher is sent in the place of another.

        Open MPI's kills the ranks right behind a SIGTERM, but hands SIGUSR1 on; MPICH's
        hands on both. A second SIGTERM is one.
        """
        is_first = self.received.count(number) <= 1
        if self._is_savable and number == signal.SIGTERM and is_first:
            return signal.SIGUSR1
        return number

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


def run_world(
    start: Start,
    *,
    environ: Mapping[str, str],
    grace_s: float = GRACE_S,
    is_savable: bool = False,
) -> int:
    """Run a world to its end, with its input closed.

    Before and behind it, shared memory that killed worlds have left is removed.

    Args:
        start: what to run.
        environ: the environment, to which the variables of `start` are added.
        grace_s: seconds between a signal and the end of the world by force.
        is_savable: whether its ranks take SIGUSR1 for a wish to save and leave; then
            SIGTERM is that wish too, with time enough, and SIGUSR1 is waited for.

    Returns:
        The exit code: that of the world, 130 after Ctrl-C, 128 + n after signal n.
    """
    tell_and_remove()
    child = _Child(grace_s, is_savable=is_savable)
    # Under nohup a closed terminal is to change nothing.
    before = {
        number: signal.signal(number, child.pass_on)
        for number in _PASSED_ON
        if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)
    }
    try:
        code = child.run(start.command, environ={**environ, **start.variables})
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        tell_and_remove()
    return exit_code(code, family=start.family, received=child.received)


def exit_code(code: int, *, family: str, received: Sequence[int]) -> int:
    """Turn what a launcher returned into one meaning for all launchers.

    Args:
        code: as `Popen` has it, -n for a launcher that died of signal n.
        family: whose launcher it was.
        received: the signals that were passed on to it.
    """
    if code == STOPPED:
        return code
    if received and code != 0:
        return 128 + received[0]
    if code < 0:
        return 128 - code
    # Hydra returns the bare number of the signal that killed a rank.
    if family == "mpich" and code in _DEADLY:
        return 128 + code
    return code
