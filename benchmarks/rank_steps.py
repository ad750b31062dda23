"""What the ranks of all libraries do alike: take timed steps, look at their memory."""

import ctypes
import gc
import resource
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.messages import Ran, Usage

PAGE = resource.getpagesize()


def run_steps(step: Callable[[int], float], first: int, number: int) -> Ran:
    """Take steps, each timed; count the page faults of all of them."""
    seconds, losses = [], []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for index in range(first, first + number):
        start = time.perf_counter()
        losses.append(step(index))
        seconds.append(time.perf_counter() - start)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return Ran(seconds=tuple(seconds), losses=tuple(losses), num_faults=faults)


def fastest_gflops(multiply: Callable[[], object], flops: float) -> float:
    """Return the best rate of a few products, in 10^9 operations a second."""
    multiply()
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - start)
    return flops / best / 1e9


def memory() -> Usage:
    """Return what this process has in memory, and has had at most; zeros off Linux.

    Source: Linux, Documentation/filesystems/proc.rst, status.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return Usage(now_bytes=0, peak_bytes=0)
    words = dict(line.split(":", 1) for line in status.read_text().splitlines())
    now, peak = (int(words[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return Usage(now_bytes=now, peak_bytes=peak)


def forget_peak() -> None:
    """Let the peak begin at what is in memory now.

    Source: Linux, Documentation/filesystems/proc.rst, clear_refs.
    """
    gc.collect()
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


def trim_heap() -> bool:
    """Let glibc give back what was freed; False where there is no glibc.

    Source: malloc_trim(3).
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return False
    libc.malloc_trim(0)
    return True
