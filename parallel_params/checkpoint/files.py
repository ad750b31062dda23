"""The operations of the file system that a save consists of, one method for each.

All that a save does to a disk goes through here, so a test can record every operation,
stop at any of them, or let it fail. What has to come in which order is said in
`saving.py`. Reading is not here.
"""

import os
from pathlib import Path

from parallel_params.comm.shared_files import FileOpener, SharedFile

# Nobody outside of the group reads weights; the umask takes off more.
FILE_MODE = 0o640
FOLDER_MODE = 0o750

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Files:
    """Does what it is told to the file system.

    Raises:
        OSError: any method, if the system refuses.
    """

    def make_folder(self, path: Path) -> None:
        """Make a folder that does not exist yet, in one that does."""
        path.mkdir(mode=FOLDER_MODE)

    def create(self, path: Path) -> int:
        """Make a file that does not exist yet and return a descriptor to write it."""
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS, FILE_MODE
        )

    def open(self, path: Path) -> int:
        """Return a descriptor to write parts of a file that exists."""
        return os.open(path, os.O_WRONLY | _NO_LINKS)

    def resize(self, descriptor: int, num_bytes: int) -> None:
        """Give a file its length; what is not written of it reads as zeros."""
        os.ftruncate(descriptor, num_bytes)

    def write(self, descriptor: int, data: memoryview, offset: int) -> None:
        """Write all of `data` at a place of a file."""
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written

    def sync(self, descriptor: int) -> None:
        """Push the content of a file to the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Give a descriptor back."""
        os.close(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Push the names in a folder to the disk."""
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, path: Path, target: Path) -> None:
        """Give a file or folder another name; a file there is replaced at once."""
        path.replace(target)

    def remove(self, path: Path) -> None:
        """Take a file, or a link, out of its folder."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """Take an empty folder out of the one it is in."""
        path.rmdir()


def write_file(files: Files, path: Path, content: bytes) -> None:
    """Write a new file and push it to the disk; its name is not pushed."""
    descriptor = files.create(path)
    try:
        files.write(descriptor, memoryview(content), 0)
        files.sync(descriptor)
    finally:
        files.close(descriptor)


def remove_tree(files: Files, path: Path) -> None:
    """Take away a folder and all in it; links are removed, not followed."""
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(files, entry)
        else:
            files.remove(entry)
    files.remove_folder(path)


class OpenedFiles(Files):
    """Writes parts of files that exist through what opens them; the rest as `Files`.

    Args:
        opener: of such files.
    """

    def __init__(self, opener: FileOpener) -> None:
        self._opener = opener
        self._opened: dict[int, tuple[SharedFile, Path]] = {}

    def open(self, path: Path) -> int:
        """Open a file through the opener; return a number below 0 for it."""
        file = self._opener(path)
        number = min(self._opened, default=0) - 1
        self._opened[number] = file, path
        return number

    def write(self, descriptor: int, data: memoryview, offset: int) -> None:
        """Write all of `data` at a place of a file."""
        if descriptor < 0:
            self._opened[descriptor][0].write_at(data, offset)
        else:
            super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        """Push the content of a file to the disk, by both if the opener wrote it.

        That an opener's own `sync` ends in one of the system is its promise alone.
        """
        if descriptor < 0:
            file, path = self._opened[descriptor]
            file.sync()
            own = super().open(path)
            try:
                super().sync(own)
            finally:
                super().close(own)
        else:
            super().sync(descriptor)

    def close(self, descriptor: int) -> None:
        """Give a descriptor back."""
        if descriptor < 0:
            self._opened.pop(descriptor)[0].close()
        else:
            super().close(descriptor)
