"""The worlds of one size: runs their tests, judges each over all ranks.

A world lives until a test fails in it; the next test asked for opens a new one with
all tests that are not judged yet.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from world.launch import NoLauncherError
from world.process import POLL_S, WorldProcess

# Between the report of a failed rank and the world's end: see `child.GRACE_S`.
_ABORT_S = 5.0
_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one test on all ranks of a world together."""

    outcome: Literal["passed", "failed", "skipped", "xfailed"]
    text: str = ""


class Judge:
    """Runs the tests of one world size, each at most once."""

    def __init__(
        self, num_ranks: int, *, timeout_s: float, root: Path, options: Sequence[str]
    ) -> None:
        self.num_ranks = num_ranks
        self.nodeids: list[str] = []
        self._timeout_s = timeout_s
        self._root = root  # of the node ids
        self._options = options
        self._verdicts: dict[str, Verdict] = {}
        self._world: WorldProcess | None = None

    def judge(self, nodeid: str) -> Verdict:
        """Return the verdict over a test, running it first if need be."""
        try:
            while nodeid not in self._verdicts:
                self._advance(self._open(), nodeid)
        except NoLauncherError as error:
            return Verdict(outcome="failed", text=str(error))
        if not self._remaining():
            self.close()
        return self._verdicts[nodeid]

    def close(self) -> None:
        """End the world, if there is one."""
        if self._world is not None:
            self._world.end()
            self._world = None

    def _remaining(self) -> list[str]:
        return [nodeid for nodeid in self.nodeids if nodeid not in self._verdicts]

    def _open(self) -> WorldProcess:
        if self._world is None:
            self._world = WorldProcess(
                self.num_ranks,
                self._remaining(),
                root=self._root,
                options=self._options,
            )
        return self._world

    def _advance(self, world: WorldProcess, wanted: str) -> None:
        """Wait for news and take the verdicts that it brings."""
        exit_code = world.exit_code  # before reading: what is read is then complete
        world.poll()
        failed = _first_failed(world)
        self._take_ended(world, is_over=exit_code == 0)
        if failed is not None:
            if any(failed not in log.outcomes for log in world.logs):
                world.ask_for_stacks()
            world.wait(_ABORT_S)
            self._take_failed(world, failed)
        elif exit_code is not None and (exit_code != 0 or self._remaining()):
            cause = f"the world ended by itself, exit code {exit_code}"
            self._take_failed(world, _current(world, wanted), cause)
        elif time.monotonic() - world.last_news > self._patience_s(world):
            world.ask_for_stacks()
            cause = f"no news for {self._patience_s(world):g} s; stuck in"
            self._take_failed(world, _current(world, wanted), cause)
        elif wanted not in self._verdicts:
            time.sleep(POLL_S)

    def _patience_s(self, world: WorldProcess) -> float:
        """How long a world may be silent: longer while it starts or leaves."""
        is_up = all(log.begun for log in world.logs)
        last = set(self._remaining()[-1:])
        is_leaving = all(last <= log.ended for log in world.logs)
        is_testing = is_up and not is_leaving
        return self._timeout_s if is_testing else max(self._timeout_s, _START_S)

    def _take_ended(self, world: WorldProcess, *, is_over: bool) -> None:
        """Judge the tests that have ended on all ranks."""
        remaining = self._remaining()
        ended = [
            id_ for id_ in remaining if all(id_ in log.ended for log in world.logs)
        ]
        if not is_over and len(ended) == len(remaining):
            # The last test is only over when the world is: it may still crash.
            ended = ended[:-1]
        for nodeid in ended:
            found = [log.outcomes.get(nodeid) for log in world.logs]
            first = found[0]
            if first is None or not all(found):
                self._verdicts[nodeid] = Verdict(outcome="passed")
            elif first.event in ("skipped", "xfailed"):
                self._verdicts[nodeid] = Verdict(outcome=first.event, text=first.text)

    def _take_failed(self, world: WorldProcess, nodeid: str, cause: str = "") -> None:
        parts = []
        for rank, log in enumerate(world.logs):
            head = f"---- rank {rank} of {self.num_ranks}"
            record = log.outcomes.get(nodeid)
            if record is not None and record.event == "failed":
                parts.append(f"{head} FAILED ----\n{record.text}")
            elif nodeid not in log.ended:
                why = cause or "stuck in"
                parts.append(f"{head} DID NOT FINISH ({why}) ----\n{world.stack(rank)}")
        if cause and not any(world.stack(rank) for rank in range(self.num_ranks)):
            parts.append(f"---- {cause}; it printed ----\n{world.output_tail()}")
        self._verdicts[nodeid] = Verdict(outcome="failed", text="\n".join(parts))
        self.close()


def _first_failed(world: WorldProcess) -> str | None:
    for log in world.logs:
        for nodeid, record in log.outcomes.items():
            if record.event == "failed":
                return nodeid
    return None


def _current(world: WorldProcess, wanted: str) -> str:
    """Return the test that some rank has begun and not ended."""
    for log in world.logs:
        for nodeid in log.begun:
            if nodeid not in log.ended:
                return nodeid
    return wanted
