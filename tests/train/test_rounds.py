"""Jobs with an [outer] table: planned, trained, and refused where they cannot be."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from parallel_params.cli.app import app
from parallel_params.comm.local import run_threads
from parallel_params.errors import ConfigError, RankFailed, TrainingStopped
from parallel_params.plan import codec
from parallel_params.train.config import Job, load_job
from parallel_params.train.console import Console
from parallel_params.train.loop import train
from parallel_params.train.result import TrainResult

DILOCO = Path(__file__).parents[2] / "configs" / "digits-diloco.toml"
TINY = (
    "data.batch=16",
    "model.hidden=[9]",
    "optim.schedule.warmup=1",
    "outer.every=2",
    "train.steps=4",
    "train.eval_every=4",
    "log.every=1",
    "parallel.shard_threshold=64",
)


def tiny(*overrides: str) -> Job:
    return load_job(DILOCO, [*TINY, *overrides])


def run(job: Job, size: int, text: io.StringIO | None = None) -> TrainResult:
    """Train a job on threads."""
    console = Console(stream=text or io.StringIO())
    return run_threads(size, lambda comm: train(job, comm, console))[0]


def test_a_run_says_what_a_round_sends_and_keeps_the_anchor(tmp_path: Path) -> None:
    text, folder = io.StringIO(), tmp_path / "run"

    result = run(tiny(f"run.folder={folder}"), 2, text)

    assert (
        "2 workers of 1 rank, an outer step every 2 steps; a round" in text.getvalue()
    )
    plan = codec.loads((folder / "plan.json").read_text())
    assert {bucket.state_slots for bucket in plan.buckets} == {("accum",)}
    assert json.loads((folder / "result.json").read_text())["num_steps"] == 4
    assert (folder / "model.safetensors").exists()
    assert result.test_score > 0


@pytest.mark.parametrize("level", [0, 2])
def test_workers_have_the_same_bits_on_any_number_of_ranks(
    tmp_path: Path, level: int
) -> None:
    words = ("outer.workers=2", "parallel.grains=4", f"parallel.level={level}")
    hashes = {
        run(tiny(*words, f"run.folder={tmp_path / str(size)}"), size).weights_hash
        for size in (2, 4)
    }

    assert len(hashes) == 1


def test_the_outer_optimizer_is_the_jobs(tmp_path: Path) -> None:
    choices = ("outer.lr=0.7", "outer.lr=1.0", "outer.momentum=0")
    hashes = {
        run(tiny(words, f"run.folder={tmp_path / words}"), 2).weights_hash
        for words in choices
    }

    assert len(hashes) == len(choices)


def test_the_plan_is_one_of_rounds() -> None:
    words = ["plan", str(DILOCO), "-n", "4", "--ranks-per-node", "1"]

    said = CliRunner().invoke(app, words).stdout
    as_json = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    explained = CliRunner().invoke(app, [*words, "--explain", "0.weight"]).stdout

    assert "without an outer loop 5.9 MiB, 20 times as much" in said
    assert as_json["mesh"]["sizes"] == [4]
    assert explained.startswith("0.weight: float32 (256, 64)")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train.steps=5"], "train.steps: 5 is no whole number of rounds .* 4 or 6"),
        (["train.eval_every=3"], "train.eval_every: 3 is no whole number"),
        (["parallel.level=3"], "parallel.level: not with outer.every"),
        (["checkpoint.every=2"], "checkpoint.every: not with outer.every"),
        (["optim.ema.kind=mean"], "optim.ema: not with outer.every"),
        (["parallel.grains=4", "outer.workers=3"], "4 grains .* 3 workers"),
        (
            ["parallel.override=[{match='0.*', layerwise_parallel=true}]"],
            "parallel.override.0: not with outer.every",
        ),
    ],
)
def test_what_no_round_allows_is_refused(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        tiny(*words)


def test_an_outer_table_without_rounds_is_refused() -> None:
    digits = DILOCO.with_name("digits.toml")
    with pytest.raises(ConfigError, match=r"outer.lr: there is no outer loop"):
        load_job(digits, ["outer.lr=1.0"])


@pytest.mark.parametrize(
    ("words", "size", "expected"),
    [
        (
            ("outer.workers=3", "data.batch=12"),
            2,
            "3 workers cannot be made of 2 ranks",
        ),
        (("parallel.grains=2",), 4, "2 grains cannot be shared"),
    ],
)
def test_a_world_that_does_not_fit_the_workers_is_refused(
    words: tuple[str, ...], size: int, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        run(tiny(*words), size)


def test_epochs_that_are_no_rounds_are_refused(tmp_path: Path) -> None:
    job = tiny(f"run.folder={tmp_path / 'run'}")
    epochs = dataclasses.replace(job.train, steps=None, epochs=1)
    outer = dataclasses.replace(job.outer, every=4)

    with pytest.raises(ConfigError, match=r"90 steps .* outer.every = 4"):
        run(dataclasses.replace(job, train=epochs, outer=outer), 2)


def test_a_run_does_not_go_on_from_checkpoints_it_cannot_have() -> None:
    console = Console(stream=io.StringIO())
    with pytest.raises(ConfigError, match="leave --resume out"):
        run_threads(2, lambda comm: train(tiny(), comm, console, resume="auto"))


def test_a_run_that_is_asked_to_stop_ends_between_rounds(tmp_path: Path) -> None:
    job, console = tiny(f"run.folder={tmp_path / 'run'}"), Console(stream=io.StringIO())
    with pytest.raises(TrainingStopped, match="behind step 2"):
        run_threads(2, lambda comm: train(job, comm, console, stop=lambda: True))


def test_a_run_that_diverges_ends_on_all_ranks(tmp_path: Path) -> None:
    job = tiny(f"run.folder={tmp_path / 'run'}", "optim.lr=1e30", "optim.name=sgd")
    with pytest.raises((RankFailed, ArithmeticError), match=r"not finite|loss is"):
        run(job, 2)
