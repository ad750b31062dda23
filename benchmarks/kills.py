"""Training that is killed again and again, at random times, and goes on each time.

Every run goes on from the newest checkpoint of the one before, until SIGKILL hits a
rank, the launcher or all of them, while it starts, trains or saves. Then every
checkpoint is read back whole, and the newest one that was whole before must be there,
or a newer one. What a kill has left, on the disk and in shared memory, must be gone as
soon as a later run trains, and that run must have said so. In the end a run that nobody
stops goes to the same step, and must have the same bits.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from parallel_params.checkpoint.folder import find_left_over, list_checkpoints
from parallel_params.checkpoint.reading import Reader
from parallel_params.cli.leftovers import find_left_over as find_segments
from parallel_params.cli.leftovers import find_sessions
from parallel_params.plan.interval import Interval

END_S = 30.0
START_S = 2.0
"""About how long a run takes to its first step; some kills come before that."""
# Stacks on SIGABRT, which Open MPI would take for itself.
_TELLING = {"PYTHONFAULTHANDLER": "1", "OMPI_MCA_opal_signal": "11"}
CLEANED = {
    "disk": "removed what an interrupted save left",
    "memory": "removed shared memory that killed worlds left",
}


def children_of(pid: int) -> list[int]:
    """Return the processes below one, the deepest last."""
    answer = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = [tuple(map(int, line.split())) for line in answer.stdout.splitlines()]
    found, todo = [], [pid]
    while todo:
        parent = todo.pop(0)
        below = [child for child, above in pairs if above == parent]
        found += below
        todo += below
    return found


def stacks_of(pids: list[int]) -> str:
    """Let processes that hang write where they are, and end; say what each waits for.

    Python writes its stacks to what the process takes for standard error.
    """
    lines = []
    for pid in pids:
        with contextlib.suppress(OSError):
            place = Path(f"/proc/{pid}")
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            waits = (place / "wchan").read_text()
            lines.append(f"{pid} waits in {waits or 'nothing'}: {words}\n")
    for pid in reversed(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGABRT)
            time.sleep(1)
    return "".join(lines)


def hashes_of(path: Path) -> list[tuple[str, str, str]]:
    """Read every byte of a checkpoint; return names and hashes of all blocks."""
    with (reader := Reader.open(path)):
        for stored in reader.manifest.tensors:
            reader.check(stored, Interval(0, stored.numel))
    return [
        (stored.file_key, str(block.interval), block.hash)
        for stored in reader.manifest.tensors
        for block in stored.blocks
    ]


def newest_whole(folder: Path) -> tuple[int, int]:
    """Read every checkpoint; return serial number and step of the newest."""
    newest = (0, 0)
    for found in list_checkpoints(folder):
        assert found.manifest is not None, found.problem
        hashes_of(found.path)
        newest = max(newest, (found.manifest.serial, found.manifest.step))
    return newest


@dataclass
class Kills:
    """One run after the other, and what was found behind them.

    Attributes:
        folder: of the checkpoints; the output of the run lies beside it.
        words: of `pparams train`, but for the folder.
        ranks: of the world.
        chance: of times and victims.
        lost: how often the newest checkpoint was older than one before.
        left: how often something was left, by place.
        told: how often the next run that trained had removed that and said so.
    """

    folder: Path
    words: list[str]
    ranks: int
    chance: random.Random
    lost: int = 0
    left: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLEANED, 0))
    told: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLEANED, 0))
    _newest: tuple[int, int] = (0, 0)
    _remains: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._newest = newest_whole(self.folder)

    def kill_once(self) -> str:
        """Start a run, kill something of it, and look; return a line that says what."""
        is_early = self.chance.random() < 0.3
        known = self._saves()
        with self._run(self.folder) as run:
            if is_early:
                time.sleep(self.chance.uniform(0.0, START_S))
            else:
                self._wait_for(run, lambda: bool(self._saves() - known))
                time.sleep(self.chance.uniform(0.0, 0.3))
            below = children_of(run.pid)
            who = self._kill(run.pid, below)
            run.wait(timeout=END_S)
            _wait_for_end(below)
        step = self._look()
        when = "starting" if is_early else "training"
        return f"killed {who} while {when}; newest whole: step {step}"

    def stop_once(self) -> None:
        """Start a run and ask it to save and leave; all that is left must be gone."""
        known = self._saves()
        with self._run(self.folder) as run:
            self._wait_for(run, lambda: bool(self._saves() - known))
            run.terminate()
            assert run.wait(timeout=END_S) == 75, self._said()
        self._look()
        assert not any(self._remains.values()), self._remains

    def compare(self) -> bool:
        """Go to the newest step without any stop; return whether the bits are equal."""
        newest = list_checkpoints(self.folder)[-1]
        assert newest.manifest is not None
        step = newest.manifest.step
        straight = self.folder.with_name(f"straight-{step}")
        words = [f"checkpoint.every={step}", "log.every=1000000"]
        with self._run(straight, *words) as run:
            self._wait_for(run, (straight / newest.path.name).exists, 100 * END_S)
            run.terminate()
            run.wait(timeout=END_S)
        return hashes_of(straight / newest.path.name) == hashes_of(newest.path)

    @contextmanager
    def _run(self, folder: Path, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Start a run that saves into a folder, and yield it."""
        all_words = [*self.words, f"checkpoint.folder={folder}", *words]
        with (
            self.folder.with_name("said").open("wb") as said,
            subprocess.Popen(
                [sys.executable, "-m", "parallel_params", "train", *all_words],
                cwd=self.folder.parent,
                stdout=said,
                stderr=said,
                env=os.environ | _TELLING,
            ) as run,
        ):
            try:
                yield run
            finally:
                run.kill()

    def _saves(self) -> set[str]:
        """Return the names of all saves, those under way among them."""
        return {path.name for path in self.folder.glob("step-*")}

    def _said(self) -> str:
        return self.folder.with_name("said").read_text(errors="replace")

    def _wait_for(
        self,
        run: "subprocess.Popen[bytes]",
        is_there: Callable[[], bool],
        seconds: float = 4 * END_S,
    ) -> None:
        end = time.monotonic() + seconds
        while not is_there():
            assert run.poll() is None, f"ended with {run.returncode}: {self._said()}"
            if time.monotonic() > end:
                below = stacks_of([run.pid, *children_of(run.pid)])
                raise AssertionError(f"no checkpoint was saved: {below}{self._said()}")
            time.sleep(0.01)

    def _kill(self, launcher: int, below: list[int]) -> str:
        who = self.chance.choice(["a rank", "the launcher", "all"])
        if not below:  # it has not started any yet
            who = "the launcher"
        rank = self.chance.choice(below[-self.ranks :] or [launcher])
        victims = {"a rank": [rank], "the launcher": [launcher]}
        for pid in victims.get(who, [launcher, *below]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return who

    def _look(self) -> int:
        """Read all checkpoints, and look for what is left; return the newest step."""
        newest, said = newest_whole(self.folder), self._said()
        self.lost += newest < self._newest
        has_trained = newest > self._newest
        self._newest = max(newest, self._newest)
        remains = {
            "disk": {str(path) for path in find_left_over(self.folder)},
            "memory": {str(path) for path in [*find_segments(), *find_sessions()]},
        }
        for where in CLEANED:
            before = self._remains.get(where, set())
            if before and has_trained:
                assert not before & remains[where], f"not removed: {before}"
                assert CLEANED[where] in said, f"not told: {before}: {said}"
                self.told[where] += 1
            self.left[where] += bool(remains[where] - before)
        self._remains = remains
        return newest[1]


def _wait_for_end(pids: list[int]) -> None:
    end = time.monotonic() + END_S
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        assert time.monotonic() < end, "ranks live on"
        time.sleep(0.02)


def main(
    times: int = typer.Option(100, help="How often."),
    ranks: int = typer.Option(2, "-n", help="Ranks of the world."),
    layout: str = typer.Option("one", help="Of the checkpoints: one or shards."),
    background: bool = typer.Option(False, help="Save beside training."),
    seed: int = typer.Option(1, help="Of the times and victims."),
    folder: str = typer.Option("", help="Go on in it, and leave it there."),
) -> None:
    """Kill a run again and again; exit with 1 if a checkpoint is ever lost."""
    words = ["digits", "-n", str(ranks), "--resume", "auto", "log.progress=off"]
    words += ["train.steps=1000000", "checkpoint.every=3", "parallel.grains=4"]
    words += [
        f"checkpoint.layout={layout}",
        f"checkpoint.background={str(background).lower()}",
    ]
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        kept = Path(folder or place).resolve() / "kept"
        kept.parent.mkdir(exist_ok=True)
        kills = Kills(kept, words, ranks, random.Random(seed))
        for number in range(times):
            print(f"{number + 1:4}: {kills.kill_once()}", flush=True)
        kills.stop_once()
        is_same = kills.compare()
    places = [f"{kills.left[w]} in {w} ({kills.told[w]} told)" for w in CLEANED]
    print(
        f"{times} kills, {kills.lost} checkpoints lost; left until the next start: "
        f"{', '.join(places)}; bits of the newest are "
        f"{'those' if is_same else 'NOT those'} of a run that nobody stopped"
    )
    raise typer.Exit(1 if kills.lost or not is_same else 0)
