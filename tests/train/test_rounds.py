"""Jobs with an [outer] table: planned, trained, and refused where they cannot be."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from parallel_params.cli.app import app
from parallel_params.comm.local import run_threads
from parallel_params.errors import (
    CheckpointError,
    CheckpointMismatch,
    ConfigError,
    RankFailed,
    TrainingStopped,
)
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
        (["checkpoint.background=true"], "checkpoint.background: not with outer"),
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


def resume(
    job: Job, size: int, origin: str, text: io.StringIO | None = None
) -> TrainResult:
    """Go on from a checkpoint."""
    console = Console(stream=text or io.StringIO())
    body = lambda comm: train(job, comm, console, resume=origin)  # noqa: E731
    return run_threads(size, body)[0]


def test_every_checkpoint_of_a_run_leads_to_its_end(
    tmp_path: Path,
) -> None:
    words = "outer.workers=2", "parallel.grains=4"
    folder = tmp_path / "run"
    # Three steps are in the middle of a round.
    job = tiny(
        *words, "checkpoint.every=1", "checkpoint.keep=9", f"run.folder={folder}"
    )
    whole = run(job, 2)

    steps = sorted((folder / "checkpoints").glob("step-*"))
    assert [path.name for path in steps] == [f"step-00000{i}" for i in (1, 2, 3, 4)]
    for path, size in zip(steps, (2, 2, 4), strict=False):
        text = io.StringIO()
        again = tiny(*words, f"run.folder={tmp_path / path.name}")
        result = resume(again, size, str(path), text)
        assert (result.weights_hash, result.test_score, result.loss) == (
            whole.weights_hash,
            whole.test_score,
            whole.loss,
        )
        assert f", step {path.name[-1]}" in " ".join(text.getvalue().split())


def test_a_run_that_is_asked_to_stop_saves_between_rounds_and_goes_on_by_auto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    console = Console(stream=io.StringIO())
    with pytest.raises(TrainingStopped, match=r"step 2 is saved in .*--resume auto"):
        run_threads(2, lambda comm: train(tiny(), comm, console, stop=lambda: True))

    whole = run(tiny(f"run.folder={tmp_path / 'whole'}"), 2)

    assert resume(tiny(), 2, "auto").weights_hash == whole.weights_hash


def test_workers_keep_what_an_anchor_needs(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    words = "checkpoint.every=1", "checkpoint.keep=1", "checkpoint.keep_best=false"
    run(tiny(*words, f"run.folder={tmp_path / 'run'}"), 2)

    for place in (folder, folder / "worker-0", folder / "worker-1"):
        assert [path.name for path in place.glob("step-*")] == ["step-000004"]


def test_checkpoints_of_other_workers_or_of_none_are_refused(tmp_path: Path) -> None:
    run(tiny("checkpoint.every=2", f"run.folder={tmp_path / 'run'}"), 2)
    saved = str(tmp_path / "run" / "checkpoints" / "step-000002")
    with pytest.raises(CheckpointMismatch, match=r"by 2 workers, .* 4.*outer.workers"):
        resume(tiny(), 4, saved)
    digits = [word for word in TINY if not word.startswith("outer")]
    plain = load_job(DILOCO.with_name("digits.toml"), digits)
    with pytest.raises(CheckpointMismatch, match=r"accum|state|optimizer"):
        resume(plain, 2, saved)
    plainly = [*digits, "checkpoint.every=2", f"run.folder={tmp_path / 'plain'}"]
    run(load_job(DILOCO.with_name("digits.toml"), plainly), 2)
    with pytest.raises(CheckpointError, match="outer_loop"):
        resume(tiny(), 2, str(tmp_path / "plain" / "checkpoints" / "step-000002"))


def test_a_run_that_diverges_ends_on_all_ranks(tmp_path: Path) -> None:
    job = tiny(f"run.folder={tmp_path / 'run'}", "optim.lr=1e30", "optim.name=sgd")
    with pytest.raises((RankFailed, ArithmeticError), match=r"not finite|loss is"):
        run(job, 2)
