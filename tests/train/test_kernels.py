"""A job names its kernels; the run records them, and all ranks have the same."""

import importlib.util
import io
import json
from pathlib import Path

import pytest
from kernel_sets import kernels_as

from parallel_params.comm.local import run_threads, solo
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import KernelsUnavailable
from parallel_params.tensor.kernel_set import kernel_set
from parallel_params.train import kernels as module
from parallel_params.train.config import load_job
from parallel_params.train.console import Console
from parallel_params.train.kernels import kernels
from parallel_params.train.loop import train

DIGITS = Path(__file__).parents[2] / "configs" / "digits.toml"
TINY = (
    "data.batch=16",
    "model.hidden=[9]",
    "train.steps=3",
    "log.every=3",
    "optim.schedule.warmup=1",
)


def test_a_run_with_fast_kernels_says_so_and_leaves_numpy_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    monkeypatch.chdir(tmp_path)
    job = load_job(DIGITS, [*TINY, 'parallel.kernels="fast"'])
    text = io.StringIO()

    results = run_threads(2, lambda comm: train(job, comm, Console(stream=text)))

    record = json.loads((results[0].folder / "env.json").read_text())
    assert record["bits"]["kernels"]["set"] == record["kernels"]["name"] == "fast"
    assert record["bits"]["kernels"]["compiler"].startswith("numba ")
    assert "fast kernels (numba " in text.getvalue().replace("\n      ", " ")
    assert kernel_set().name == "numpy"


def test_auto_is_fast_only_where_every_rank_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with kernels_as("fast"):
        pass

    def body(comm: Communicator) -> str:
        with kernels("auto", comm) as chosen:
            return chosen.name

    assert run_threads(2, body) == ["fast", "fast"]
    answers = iter([None, KernelsUnavailable("none here")])
    monkeypatch.setattr(module, "missing_compiler", lambda: next(answers))
    assert run_threads(2, body) == ["numpy", "numpy"]


def test_fast_where_no_rank_can_is_everybodys_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def body(comm: Communicator) -> None:
        with (
            pytest.raises(KernelsUnavailable, match="pip install"),
            kernels("fast", comm),
        ):
            raise AssertionError("nothing may run")

    run_threads(2, body)


def test_kernels_are_what_they_were_after_an_error() -> None:
    with pytest.raises(KeyError), kernels("numpy", solo()):
        raise KeyError
    assert kernel_set().name == "numpy"
