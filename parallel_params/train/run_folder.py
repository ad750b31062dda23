"""The folder of a run: made once, by rank 0, and never over an older one.

Files appear whole: they are written beside their place and renamed. What the files say
is decided by those who write them.
"""

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import ConfigError, RunFolderError, RunFolderExists
from parallel_params.train.config.job import Run

# Two runs may start in one second; a hundred may not.
_MAX_TRIES = 100


class RunFolder:
    """Writes the files of one run; on all ranks but one it writes nothing.

    Args:
        path: of the folder, which exists where `is_writer`.
        is_writer: whether this rank is the one.
    """

    def __init__(self, path: Path, *, is_writer: bool) -> None:
        self.path = path
        self.is_writer = is_writer

    def write_text(self, name: str, text: str) -> None:
        """Write a file, all at once."""
        self.write_bytes(name, text.encode("utf-8"))

    def write_json(self, name: str, value: object) -> None:
        """Write a value as indented JSON, all at once."""
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file beside its place, push it to disk, rename it.

        Raises:
            RunFolderError: it cannot be written.
        """
        if not self.is_writer:
            return
        partial = self.path / f"{name}.partial"
        with writing(self.path / name):
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path / name)

    def append_json(self, name: str, value: Mapping[str, object]) -> None:
        """Add one object as one line.

        Raises:
            RunFolderError: it cannot be written.
        """
        self.append_text(name, json.dumps(value) + "\n")

    def append_text(self, name: str, text: str) -> None:
        """Add text to the end of a file.

        Raises:
            RunFolderError: it cannot be written.
        """
        if not self.is_writer:
            return
        path = self.path / name
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(text)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence that `path` cannot be written, and why.

    Raises:
        RunFolderError: the body raised an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFolderError(
            f"{path} cannot be written: {reason}; make room, or give another run.folder"
        ) from error


def make_run_folder(
    run: Run, comm: Communicator, now: datetime, *, is_resumed: bool = False
) -> RunFolder:
    """Make the folder that a job names, or a new one of this moment.

    Args:
        run: the job's [run] table.
        comm: all ranks; rank 0 decides and makes.
        now: the moment, on rank 0.
        is_resumed: whether the run goes on from another: beside a folder that is there
            it makes `<folder>-2`, and so on.

    Raises:
        RunFolderExists: on every rank, if the job names a folder that is there.
        ConfigError: on every rank, if rank 0 cannot make it.

    Collective: every rank.
    """
    answer, problem, is_there = "", "", ""
    if comm.rank == 0:
        try:
            answer = str(_make(run, now, is_resumed=is_resumed))
        except FileExistsError as error:
            is_there = str(error.filename)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            problem = getattr(error, "strerror", None) or str(error)
    # Paths may hold what is no UTF-8.
    told = json.dumps([answer, is_there, problem]).encode()
    answer, is_there, problem = json.loads(comm.all_gather_bytes(told)[0])
    if is_there:
        raise _taken(is_there)
    if problem:
        where = run.folder or "runs"
        raise ConfigError([f"run.folder: {where} cannot be made: {problem}"])
    return RunFolder(Path(answer), is_writer=comm.rank == 0)


def check_run_folder(run: Run) -> None:
    """Tell before a world is started what `make_run_folder` would refuse in it.

    Raises:
        RunFolderExists: the job names a folder that is there.
    """
    if run.folder is not None and os.path.lexists(run.folder):
        raise _taken(run.folder)


def _taken(path: str) -> RunFolderExists:
    return RunFolderExists(
        f"run folder {path} is there already, and no run is written over; "
        "give another run.folder, or move it away"
    )


def list_run_folders(run: Run) -> list[Path]:
    """Return the folders of earlier runs of a job, the oldest first."""
    first = runs_of(run) if run.folder is None else Path(run.folder)
    around = first if run.folder is None else first.parent
    stem = r"\d{4}-\d\d-\d\d_\d{6}" if run.folder is None else re.escape(first.name)
    paths = around.iterdir() if around.is_dir() else ()
    named = ((re.fullmatch(rf"({stem})(?:-(\d+))?", p.name), p) for p in paths)
    found = [(m[1], int(m[2] or 1), path) for m, path in named if m is not None]
    return [path for _, _, path in sorted(found)]


def runs_of(run: Run) -> Path:
    """Return where the runs of a job are that does not name a folder."""
    return Path("runs") / (run.name or "job")


def _make(run: Run, now: datetime, *, is_resumed: bool) -> Path:
    if run.folder is not None and not is_resumed:
        path = Path(run.folder)
        path.mkdir(parents=True)
        return path
    first = runs_of(run) / now.strftime("%Y-%m-%d_%H%M%S")
    if run.folder is not None:
        first = Path(run.folder)
    for number in range(1, _MAX_TRIES):
        path = first if number == 1 else first.with_name(f"{first.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(errno.EEXIST, "a hundred runs of one name", str(first))
