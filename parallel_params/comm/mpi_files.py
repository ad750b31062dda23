"""Writing files by MPI-IO, each rank for itself.

A file is opened on the rank alone: writes to ranges that do not overlap need nobody
else, and a rank whose disk is full leaves no other one waiting. What one wrote is for
others to read after `sync`, `close` and a message.

Source: MPI 4.1, chapter 14, Independent I/O and File Consistency.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parallel_params.comm.mpi_library import MPI

# A count of MPI 3 is an int.
_MOST_BYTES = 1 << 30


class MPIFile:
    """A `SharedFile` by MPI-IO.

    Args:
        path: of a file that exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        with self._named():
            self._file = MPI.File.Open(MPI.COMM_SELF, self._path, MPI.MODE_WRONLY)

    def write_at(self, data: memoryview, offset: int) -> None:
        """See `SharedFile.write_at`."""
        status = MPI.Status()
        while data:
            piece = data[:_MOST_BYTES]
            with self._named():
                self._file.Write_at(offset, [piece, MPI.BYTE], status)
            written = status.Get_count(MPI.BYTE)
            if written <= 0:
                raise OSError(errno.EIO, "MPI wrote nothing", self._path)
            data, offset = data[written:], offset + written

    def sync(self) -> None:
        """See `SharedFile.sync`."""
        with self._named():
            self._file.Sync()

    def close(self) -> None:
        """See `SharedFile.close`."""
        with self._named():
            self._file.Close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn an error of MPI into one of the system that names the file."""
        try:
            yield
        except MPI.Exception as error:
            text = " ".join(error.Get_error_string().split())
            raise OSError(errno.EIO, f"MPI-IO: {text}", self._path) from error
