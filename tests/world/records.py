"""What a rank of a test world tells its parent: one file of JSON lines per rank.

Files and not messages, because they survive the death of the rank that wrote them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

# start: the rank is up; begin/end: a test; failed, skipped, xfailed: what became of it.
Event: TypeAlias = Literal["start", "begin", "failed", "skipped", "xfailed", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line: what happened, in which test, and its text (of a failure, a reason)."""

    event: Event
    nodeid: str = ""
    text: str = ""
    pid: int = 0


def records_path(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:04d}.jsonl"


def stack_path(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:04d}.stack"


def write_record(path: Path, record: Record) -> None:
    """Append one whole line; the reader may look at any moment."""
    fields = {
        "event": record.event,
        "nodeid": record.nodeid,
        "text": record.text,
        "pid": record.pid,
    }
    with path.open("a") as file:
        file.write(json.dumps(fields) + "\n")


@dataclass(slots=True)
class RankLog:
    """What one rank has told so far; `read` takes in what is new."""

    path: Path
    pid: int = 0
    begun: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    outcomes: dict[str, Record] = field(default_factory=dict)
    _offset: int = 0

    def read(self) -> bool:
        """Take in new lines; return whether there were any."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            file.seek(self._offset)
            news = file.read()
        whole = news[: news.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(Record(**json.loads(line)))
        return bool(whole)

    def _take(self, record: Record) -> None:
        if record.event == "start":
            self.pid = record.pid
        elif record.event == "begin":
            self.begun.append(record.nodeid)
        elif record.event == "end":
            self.ended.add(record.nodeid)
        else:
            self.outcomes.setdefault(record.nodeid, record)
