"""A world as a child: its code, its signals, its end."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from parallel_params.cli.children import exit_code, run_world
from parallel_params.cli.start import Start


def start(*command: str) -> Start:
    return Start(command=command, variables={"ADDED": "yes"}, family="mpich", found="")


@pytest.mark.parametrize(
    ("code", "family", "received", "meaning"),
    [
        (0, "mpich", [], 0),
        (2, "mpich", [], 2),
        (70, "openmpi", [], 70),
        (130, "mpich", [], 130),
        (11, "mpich", [], 139),
        (42, "mpich", [], 42),
        (11, "unknown", [], 11),
        (139, "openmpi", [], 139),
        (9, "openmpi", [], 9),
        (-9, "mpich", [], 137),
        (1, "openmpi", [signal.SIGTERM], 143),
        (2, "mpich", [signal.SIGINT, signal.SIGINT], 130),
        (0, "mpich", [signal.SIGTERM], 0),
        (75, "mpich", [signal.SIGTERM], 75),
        (75, "openmpi", [], 75),
    ],
)
def test_codes_of_all_launchers_mean_the_same(
    code: int, family: str, received: list[int], meaning: int
) -> None:
    assert exit_code(code, family=family, received=received) == meaning


def test_a_world_has_closed_input_and_the_variables(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = run_world(
        start("/bin/sh", "-c", 'cat; echo "$ADDED $KEPT"; exit 42'),
        environ={**os.environ, "KEPT": "too"},
    )

    assert code == 42
    assert capfd.readouterr().out == "yes too\n"


def test_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    run_world(start("true"), environ=os.environ)

    assert signal.getsignal(signal.SIGTERM) is before


# The world tells its process id once it is ready, then waits for a signal.
_WAITING = 'trap "exit 7" TERM INT; echo $$; while :; do sleep 0.01; done'
_DEAF = 'trap "" TERM INT; echo $$; while :; do sleep 0.01; done'
_LAUNCHER = """
    import os, sys
    from parallel_params.cli.children import run_world
    from parallel_params.cli.start import Start

    start = Start(
        command=("/bin/sh", "-c", sys.argv[1]), variables={}, family="mpich", found=""
    )
    sys.exit(run_world(start, environ=os.environ, grace_s=0.1))
"""


@pytest.mark.slow  # starts a Python that starts a shell
@pytest.mark.parametrize(
    ("number", "world"),
    [
        (signal.SIGINT, _WAITING),
        (signal.SIGTERM, _WAITING),
        (signal.SIGTERM, _DEAF),
    ],
)
def test_a_signal_to_the_launcher_ends_the_world(
    number: signal.Signals, world: str
) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_LAUNCHER), world],
        stdout=subprocess.PIPE,
        text=True,
    )
    with launcher:
        assert launcher.stdout is not None
        child = int(launcher.stdout.readline())
        launcher.send_signal(number)
        code = _code_of(launcher)

    assert code == 128 + number
    assert not Path(f"/proc/{child}").exists() or not Path("/proc/self").exists()


# Python's own handlers run late if a signal comes right before a call that blocks; this
# is such a signal, as it interrupts no call.
_LATE = """
    import _thread, signal, threading, time

    def send_late():
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            time.sleep(0.01)
        time.sleep(0.2)  # till the launcher waits; less would only make it easy
        _thread.interrupt_main(signal.SIGTERM)

    threading.Thread(target=send_late, daemon=True).start()
"""


@pytest.mark.slow  # starts a Python that starts a shell
def test_a_signal_right_before_the_launcher_waits_is_not_lost() -> None:
    script = textwrap.dedent(_LATE) + textwrap.dedent(_LAUNCHER)
    launcher = subprocess.Popen(
        [sys.executable, "-c", script, _WAITING], stdout=subprocess.DEVNULL
    )
    with launcher:
        assert _code_of(launcher) == 128 + signal.SIGTERM


def _code_of(launcher: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> int:
    """Wait for the end; a launcher that hangs must not make the suite hang."""
    try:
        return launcher.wait(timeout=20)
    finally:
        launcher.kill()
