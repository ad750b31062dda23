"""Files that ranks write through their transport rather than through the system.

Only MPI has such a way, MPI-IO; ranks that are threads have none.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable


class SharedFile(Protocol):
    """One rank's access to a file that others may write other parts of.

    Nothing here waits for another rank.

    Raises:
        OSError: any method, if it cannot be done; with what the transport says.
    """

    def write_at(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at a place of the file."""
        ...

    def sync(self) -> None:
        """Push what this rank has written to the disk."""
        ...

    def close(self) -> None:
        """Give the access back."""
        ...


FileOpener: TypeAlias = Callable[[Path], SharedFile]


@runtime_checkable
class HasFiles(Protocol):
    """A communicator that may have a way of its own to write files."""

    @property
    def file_opener(self) -> FileOpener | None:
        """What opens a file that exists, to write it; None if there is no such way."""
        ...
