"""Memory of freed arrays is kept, so that the next ones need no page faults."""

import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from parallel_params.tensor.allocator import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    print(-1)
    raise SystemExit
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(1 << 20) for _ in range(4)]  # 8 MiB each
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    command = [sys.executable, "-c", FAULTS, how]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(answer.stdout)


def test_what_is_kept_needs_no_page_faults() -> None:
    kept = _faults("kept")
    if kept < 0:
        pytest.skip("no glibc here")
    pages = 4 * (8 << 20) // resource.getpagesize()
    assert kept < pages // 100 < _faults("given back")
