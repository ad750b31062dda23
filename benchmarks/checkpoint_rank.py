"""One rank that saves and loads a large training state, and says what it cost."""

import os
import time
from pathlib import Path

import numpy as np

import parallel_params as pp
from parallel_params import optim
from parallel_params.checkpoint.manifest import Layout

NUM_PARAMETERS = 4


class Saver:
    """A manager whose weights and momenta have a given size together.

    Args:
        mebibytes: of both, on all ranks together.
        layout: of the files.
    """

    def __init__(self, mebibytes: int, layout: Layout = "one") -> None:
        self.layout = layout
        numel = mebibytes * 2**20 // 8 // NUM_PARAMETERS
        parameters = [
            pp.Parameter(pp.Tensor(np.full(numel, i + 1.0, np.float32)), name=f"w{i}")
            for i in range(NUM_PARAMETERS)
        ]
        self.manager = pp.ParameterManager(
            parameters,
            optim.Momentum(parameters, 0.1, 0.9),
            policy=pp.Policy(level=2),
        )
        self.rank = self.manager.comm.rank

    def save(self, folder: str) -> tuple[float, int]:
        """Save; return seconds, and the largest growth of this rank's memory."""
        return self._measured(lambda: self.manager.save(folder, layout=self.layout))

    def load(self, folder: str) -> tuple[float, int]:
        """Load; return seconds, and the largest growth of this rank's memory."""
        return self._measured(lambda: self.manager.load(folder))

    def _measured(self, act: object) -> tuple[float, int]:
        self.manager.comm.barrier()
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
        before = _memory("VmRSS")
        start = time.perf_counter()
        act()  # type: ignore[operator]  # one of the two above
        return time.perf_counter() - start, max(0, _memory("VmHWM") - before)


def _memory(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    return 0


def forget_pages(folder: Path) -> None:
    """Let the system drop what it has in memory of a folder's files."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
