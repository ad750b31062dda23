"""Shared memory that killed worlds have left on this node, and its removal.

A world that is killed with its launcher cannot clear up. MPICH then leaves a file of
2 MiB in `/dev/shm`, Open MPI one of 16 MiB per rank, for good, and among the temporary
files a folder of mpiexec's, with what it shares with the ranks. Whoever starts or ends
a world removes those of this user that no process has open or mapped any more.

Not seen are processes of other containers, if they share these places with this one,
and for folders the name of the host, but not the numbers of processes.
"""

import contextlib
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path("/dev/shm")
PROCESSES = Path("/proc")
# What both MPIs call their segments; nothing else is ever touched.
_SEGMENT = re.compile(r"mpich_shm_\w+|(sm|vader)_segment\.[\w.-]+|osc_sm\.[\w.-]+")

# By the number of mpiexec's process.
_SESSION = re.compile(r"ompi\.([1-9]\d{0,9})")


def find_left_over(memory: Path = MEMORY, processes: Path = PROCESSES) -> list[Path]:
    """Return segments of MPI that belong to this user and to no process.

    Args:
        memory: where segments are files.
        processes: what Linux tells of every process; without it nothing is found.
    """
    # Who makes one has it open, and maps it before closing. So: names first, then
    # what is open, then what is mapped; a name that is in neither has nobody.
    found = list(_own_segments(memory))
    if not found or not (processes / "self").exists():
        return []
    held = set(_held(processes))
    return [path for path in found if str(path) not in held]


def remove_left_over(memory: Path = MEMORY, processes: Path = PROCESSES) -> list[Path]:
    """Remove what `find_left_over` finds, and return what was removed."""
    removed = []
    for path in find_left_over(memory, processes):
        with contextlib.suppress(OSError):  # somebody else was first
            path.unlink()
            removed.append(path)
    return removed


def find_sessions(
    temporary: Path | None = None, processes: Path = PROCESSES
) -> list[Path]:
    """Return folders of Open MPI's mpiexec that have outlived it and its ranks.

    Args:
        temporary: where they are; by default where temporary files are.
        processes: what Linux tells of every process; without it nothing is found.
    """
    place = Path(tempfile.gettempdir()) if temporary is None else temporary
    found = list(_own_sessions(place, processes))
    if not found or not (processes / "self").exists():
        return []
    held = [Path(text) for text in _held(processes)]
    return [f for f in found if not any(f in path.parents for path in held)]


def remove_sessions(
    temporary: Path | None = None, processes: Path = PROCESSES
) -> list[Path]:
    """Remove what `find_sessions` finds, and return what was removed."""
    found = find_sessions(temporary, processes)
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder for folder in found if not folder.exists()]


def tell_and_remove() -> None:
    """Remove what is left over, and say so in a line of standard error."""
    if removed := remove_left_over() + remove_sessions():
        names = ", ".join(path.name for path in removed)
        sys.stderr.write(
            f"pparams: removed shared memory that killed worlds left: {names}\n"
        )
        sys.stderr.flush()


def _own_sessions(place: Path, processes: Path) -> Iterator[Path]:
    """Yield this user's folders of processes of this host that have ended."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(place)):
            match = _SESSION.fullmatch(name)
            if match is None or (processes / match[1]).exists():
                continue
            with contextlib.suppress(OSError):
                status = (place / name).lstat()
                is_own = status.st_uid == os.geteuid()
                told = place / name / f"pmix.{socket.gethostname()}.tool"
                if is_own and stat.S_ISDIR(status.st_mode) and told.exists():
                    yield place / name


def _own_segments(memory: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(memory))
    except OSError:  # no such folder on this system
        return
    for name in names:
        if _SEGMENT.fullmatch(name):
            with contextlib.suppress(OSError):
                status = (memory / name).lstat()
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                    yield memory / name


def _held(processes: Path) -> Iterator[str]:
    """Yield the files that any process has open or mapped, as far as we may know."""
    for process in processes.iterdir():
        if process.name.isdecimal():
            # It may end while we look; those of other users cannot have our files.
            with contextlib.suppress(OSError):
                for link in (process / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        yield str(link.readlink())
            with contextlib.suppress(OSError):
                text = (process / "maps").read_text("utf-8", "replace")
                fields = (line.split(maxsplit=5) for line in text.splitlines())
                yield from (field[5] for field in fields if len(field) == 6)
