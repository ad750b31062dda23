"""The log of a run: one file per rank, and warnings of all ranks on standard error.

The run's own events go to a logger that nobody else has; the package's loggers are
listened to as well while the run lasts, and left as they were.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from parallel_params.train.run_folder import writing

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_PACKAGE = "parallel_params"


@contextmanager
def run_log(
    folder: Path, rank: int, *, stream: TextIO | None = None
) -> Iterator[logging.Logger]:
    """Log to `logs/rank-0003.log` of a run folder, warnings to `stream` as well.

    Args:
        folder: the run folder; made if this node does not share it with rank 0's.
        rank: whose log it is; named in front of warnings.
        stream: takes the warnings; standard error by default.

    Raises:
        RunFolderError: the file cannot be made.
    """
    path = folder / "logs" / f"rank-{rank:04d}.log"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter(_FORMAT))
    warnings = logging.StreamHandler(stream or sys.stderr)
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(logging.Formatter(f"[rank {rank}] %(levelname)s %(message)s"))
    # Not registered: ranks that are threads would share a logger by name.
    own = logging.Logger(f"{_PACKAGE}.train", logging.INFO)
    package = logging.getLogger(_PACKAGE)
    for handler in (file, warnings):
        handler.addFilter(_of_this_rank())
        own.addHandler(handler)
        package.addHandler(handler)
    try:
        yield own
    finally:
        for handler in (file, warnings):
            package.removeHandler(handler)
        file.close()


class _OfThread(logging.Filter):
    """Lets through what one thread logs."""

    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is of that thread."""
        return record.thread == self._thread


def _of_this_rank() -> logging.Filter:
    """Tell ranks apart that are threads; a rank in the main thread is a process."""
    if threading.current_thread() is threading.main_thread():
        return logging.Filter()
    return _OfThread(threading.get_ident())
