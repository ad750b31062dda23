"""Takes the names of MPI's shared memory away, so that a dying world leaves none.

MPICH keeps a file of 2 MiB in `/dev/shm` until a world ends in order; a rank that is
killed, or aborts, leaves it there for good. Without a name it lives as long as the last
process that has mapped it. Open MPI's launcher clears up by itself, and its ranks map
each other's files as late as their first message, so its names stay.
"""

import contextlib
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_PREFIX = "/dev/shm/mpich_shm_"


def unlink_segments(maps: Path = _MAPS, prefix: str = _PREFIX) -> None:
    """Remove the names of the segments that this process has mapped.

    For a world that has started: then all ranks of the node have mapped them.

    Args:
        maps: what this process has mapped, as Linux lists it.
        prefix: of the names, with their folder.
    """
    try:
        lines = maps.read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        return
    fields = [line.split(maxsplit=5) for line in lines]
    for path in {field[5] for field in fields if len(field) == 6}:
        if path.startswith(prefix):
            with contextlib.suppress(OSError):  # a rank beside this one was first
                Path(path).unlink()
