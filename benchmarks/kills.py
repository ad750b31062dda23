"""Training that is killed again and again, at random times, and goes on each time.

Every run goes on from the newest checkpoint of the one before, until SIGKILL hits a
rank, the launcher or all of them. Then every checkpoint is read back whole, and looked
for: the newest one that was whole before must be there, or a newer one.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer

from parallel_params.checkpoint.folder import find_left_over, list_checkpoints
from parallel_params.checkpoint.reading import Reader
from parallel_params.plan.interval import Interval

END_S = 30.0


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


def newest_whole(folder: Path) -> tuple[int, int]:
    """Read every checkpoint; return serial number and step of the newest."""
    newest = (0, 0)
    for found in list_checkpoints(folder):
        assert found.manifest is not None, found.problem
        with (reader := Reader.open(found.path)):
            for stored in reader.manifest.tensors:
                reader.check(stored, Interval(0, stored.numel))
        newest = max(newest, (found.manifest.serial, found.manifest.step))
    return newest


def kill_once(folder: Path, ranks: int, chance: random.Random) -> str:
    """Start a run, kill something of it after a while, and wait for the end."""
    words = ["train", "digits", "-n", str(ranks), "--resume", "auto", "--quiet"]
    words += ["train.steps=1000000", "checkpoint.every=3", "parallel.grains=4"]
    words += [f"checkpoint.folder={folder}", "log.progress=off"]
    with subprocess.Popen(
        [sys.executable, "-m", "parallel_params", *words],
        cwd=folder.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        before = {path.name for path in folder.glob("step-*")}
        begin = time.monotonic()
        while {path.name for path in folder.glob("step-*")} <= before:
            assert run.poll() is None, f"the run ended by itself with {run.returncode}"
            assert time.monotonic() < begin + 4 * END_S, "no checkpoint was saved"
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.3))
        below = children_of(run.pid)
        who = chance.choice(["a rank", "the launcher", "all"])
        victims = {
            "a rank": [below[-1 - chance.randrange(min(ranks, len(below)))]]
            if below
            else [run.pid],
            "the launcher": [run.pid],
            "all": [run.pid, *below],
        }[who]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.wait(timeout=END_S)
        end = time.monotonic() + END_S
        while any(Path(f"/proc/{pid}/exe").exists() for pid in below):
            assert time.monotonic() < end, "ranks live on"
            time.sleep(0.02)
    return who


def main(
    times: int = typer.Option(100, help="How often."),
    ranks: int = typer.Option(2, "-n", help="Ranks of the world."),
    seed: int = typer.Option(1, help="Of the times and victims."),
) -> None:
    """Kill a run again and again; exit with 1 if a checkpoint is ever lost."""
    chance, lost, left, before = random.Random(seed), 0, 0, (0, 0)
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        folder = Path(place) / "kept"
        for number in range(times):
            who = kill_once(folder, ranks, chance)
            newest = newest_whole(folder)
            lost += newest < before
            before = max(newest, before)
            left += bool(find_left_over(folder))
            print(f"{number + 1:4}: killed {who}; newest whole: step {newest[1]}")
    print(f"{times} kills, {lost} checkpoints lost, {left} left-overs to clean")
    raise typer.Exit(1 if lost else 0)
