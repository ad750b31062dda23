"""Which loops compute is chosen once, named, and never silently another."""

import errno
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kernel_sets import kernels_as

from parallel_params.errors import KernelsUnavailable
from parallel_params.tensor.kernel_set import (
    KernelSet,
    kernel,
    kernel_set,
    set_kernels,
)
from parallel_params.tensor.tape import Array
from parallel_params.train.kernels import describe_kernels


def _double(x: Array) -> None:
    for i in range(x.size):
        x[i] = x[i] + x[i]


def test_numpy_is_the_set_nobody_chose() -> None:
    program = "import parallel_params as pp; print(pp.kernel_set())"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "numpy"


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(ValueError, match="numpy, fast, auto"):
        set_kernels("magic")  # type: ignore[arg-type]  # a user's mistake


def test_fast_without_its_compiler_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KernelsUnavailable, match=r"parallel-params\[fast\]"):
        set_kernels("fast")
    assert set_kernels("auto").name == "numpy"
    assert kernel_set().name == "numpy"


def test_a_chosen_set_is_named_with_its_compiler() -> None:
    with kernels_as("fast"):
        assert str(kernel_set()).startswith("fast (numba ")
        assert set_kernels("auto").name == "fast"
    assert str(kernel_set()) == "numpy"


def test_a_kernel_made_after_the_choice_is_of_the_chosen_set() -> None:
    from parallel_params.optim.fast import adam as fast
    from parallel_params.optim.rules import adaptation

    with kernels_as("fast"):
        made = kernel(fast="parallel_params.optim.fast.adam")(adaptation.adapt.numpy)
        assert made.run is fast.adapt
    assert made.run is adaptation.adapt.numpy


@pytest.fixture
def prepared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[], tuple[int, int, str]]:
    """Compile and run a loop, with a cache and a folder of helpers for this test."""
    numba = pytest.importorskip("numba")
    from parallel_params.tensor.fast import compiler

    (tmp_path / "loops").mkdir()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler, "__file__", str(tmp_path / "loops" / "compiler.py"))
    monkeypatch.setattr(compiler, "_prepared", [])

    def prepare() -> tuple[int, int, str]:
        x = np.ones(3, np.float32)
        double = compiler.compiled("void(T[::1])")(_double)
        found = compiler.prepare()
        double(x)
        assert x.tolist() == [2.0, 2.0, 2.0]
        return found

    return prepare


def test_a_loop_is_compiled_anew_when_another_file_of_loops_has_changed(
    prepared: Callable[[], tuple[int, int, str]], tmp_path: Path
) -> None:
    assert [prepared(), prepared()] == [(1, 0, ""), (0, 1, "")]
    (tmp_path / "loops" / "helpers.py").write_text("x = 1")
    assert [prepared(), prepared()] == [(1, 0, ""), (0, 1, "")]
    (tmp_path / "loops" / "helpers.py").write_text("x = 2")
    assert prepared() == (1, 0, "")


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_loop_whose_file_is_damaged_is_compiled_and_kept_anew(
    prepared: Callable[[], tuple[int, int, str]], tmp_path: Path, ending: str
) -> None:
    prepared()
    (kept,) = (tmp_path / "cache").glob(f"*/*.{ending}")
    kept.write_bytes(kept.read_bytes()[:50])
    assert [prepared(), prepared()] == [(1, 0, ""), (0, 1, "")]


def test_a_loop_that_cannot_be_kept_is_compiled_and_the_reason_told(
    prepared: Callable[[], tuple[int, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.core.caching import CacheImpl, IndexDataCacheFile

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", full)
    assert prepared() == (1, 0, "[Errno 28] No space left on device")
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    assert prepared() == (1, 0, "there is no folder that can be written")
    assert "every process compiles, because nothing can be kept (why)" in (
        describe_kernels(KernelSet(name="fast", not_kept="why"))
    )
