"""A run that was stopped goes on in another world as if it had never stopped."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from parallel_params.checkpoint.reading import Reader
from parallel_params.comm.local import run_threads
from parallel_params.errors import (
    CheckpointError,
    CheckpointMismatch,
    ConfigError,
    RunFolderExists,
    TrainingStopped,
)
from parallel_params.train.config import Job, load_job
from parallel_params.train.console import Console
from parallel_params.train.loop import train
from parallel_params.train.result import TrainResult

DIGITS = Path(__file__).parents[2] / "configs" / "digits.toml"
TINY = (
    "data.batch=16",
    "model.hidden=[9]",
    "optim.schedule.warmup=1",
    "parallel.shard_threshold=64",
    "parallel.bucket=600",
    "train.steps=6",
    "train.eval_every=2",
    "log.every=2",
    "checkpoint.every=2",
)


def tiny(*overrides: str) -> Job:
    return load_job(DIGITS, [*TINY, *overrides])


def run(
    job: Job,
    size: int = 1,
    *,
    resume: str | None = None,
    stop_at: int | None = None,
    text: io.StringIO | None = None,
) -> TrainResult:
    """Train on threads; the last rank is asked to stop behind a step."""
    console = Console(stream=text or io.StringIO())

    def body(comm: object) -> TrainResult:
        asked = iter(range(1, 100))
        is_last = comm.rank == size - 1  # type: ignore[attr-defined]  # a communicator

        def stop() -> bool:
            return next(asked) == stop_at and is_last

        return train(job, comm, console, resume=resume, stop=stop)  # type: ignore[arg-type]  # as above

    return run_threads(size, body)[0]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run(tiny(f"run.folder={folder}"))


def facts_of(result: TrainResult) -> tuple[object, ...]:
    best = result.best_score, result.best_step
    return result.weights_hash, result.loss, result.test_score, best, result.num_steps


@pytest.mark.slow  # whole runs
@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_checkpoint_of_a_run_leads_to_its_end(
    whole: TrainResult, size: int
) -> None:
    kept = sorted((whole.folder / "checkpoints").glob("step-*"))
    assert [path.name[-1] for path in kept] == ["2", "4", "6"]
    for path in kept[:2]:
        level = f"parallel.level={size - 1}"
        assert facts_of(run(tiny(level), size, resume=str(path))) == facts_of(whole)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_by_auto(
    whole: TrainResult,
) -> None:
    text = io.StringIO()
    with pytest.raises(TrainingStopped, match=r"step 3 .*--resume auto"):
        run(tiny("checkpoint.every=5"), 2, stop_at=3)
    result = run(tiny(), 4, resume="auto", text=text)
    assert facts_of(result) == facts_of(whole)
    said = " ".join(text.getvalue().split())
    assert "goes on from runs/digits/" in said
    assert "step-000003, step 3" in said


def test_auto_without_a_checkpoint_starts_anew(whole: TrainResult) -> None:
    text = io.StringIO()
    assert facts_of(run(tiny(), resume="auto", text=text)) == facts_of(whole)
    assert "no checkpoint to go on from" in text.getvalue()


def test_auto_finds_the_last_run_of_a_named_folder_and_writes_beside_it(
    whole: TrainResult,
) -> None:
    job = tiny("run.folder=mine")
    for stop_at, resume in ((1, None), (2, "auto")):
        with pytest.raises(TrainingStopped):
            run(job, stop_at=stop_at, resume=resume)
    result = run(job, resume="auto")
    assert result.folder == Path("mine-3")
    assert facts_of(result) == facts_of(whole)
    with pytest.raises(RunFolderExists):
        run(job)


def test_a_run_folder_and_a_folder_of_checkpoints_stand_for_the_newest(
    whole: TrainResult, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "copy"))
    shutil.rmtree(folder / "checkpoints" / "step-000006")
    for path in (folder, folder / "checkpoints"):
        text = io.StringIO()
        assert facts_of(run(tiny(), resume=str(path), text=text)) == facts_of(whole)
        assert "step-000004" in text.getvalue()


def test_background_saves_are_of_the_same_steps(whole: TrainResult) -> None:
    job = tiny("checkpoint.background=true", "checkpoint.folder=kept")
    assert facts_of(run(job, 2)) == facts_of(whole)
    shutil.rmtree("kept/step-000006")
    assert facts_of(run(job, resume="auto")) == facts_of(whole)


def test_patience_goes_on_with_the_looks_it_has_counted() -> None:
    job = tiny(
        "train.patience=2", "train.steps=40", "optim.lr=1e-12", "train.eval_every=1"
    )
    assert run(job).num_steps == 3
    with pytest.raises(TrainingStopped):
        run(job, stop_at=2)
    assert run(job, resume="auto").num_steps == 3


def test_averages_and_plateaus_go_on_where_they_were() -> None:
    job = tiny(
        'optim={name="schedulefree", lr=0.1, ema={kind="mean"}, '
        'schedule={kind="plateau", patience=0, threshold=0.5, factor=0.5}}',
        "train.eval_every=1",
    )
    want = facts_of(run(job))
    with pytest.raises(TrainingStopped):
        run(job, 2, stop_at=3)
    assert facts_of(run(job, resume="auto")) == want


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=8", "seed: was 7"),
        ("data.batch=32", "data.batch: was 16"),
        ("train.steps=4", "nothing left to do"),
    ],
)
def test_what_would_not_go_on_is_refused_and_leaves_nothing(
    whole: TrainResult, override: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tiny(override), resume=str(whole.folder / "checkpoints" / "step-000004"))
    assert not os.listdir()


def test_another_model_or_nothing_is_refused_and_leaves_nothing(
    whole: TrainResult, tmp_path: Path
) -> None:
    path = str(whole.folder / "checkpoints" / "step-000004")
    with pytest.raises(CheckpointMismatch, match="shape"):
        run(tiny("model.hidden=[8]"), resume=path)
    with pytest.raises(CheckpointError, match=r"is not there: .*--resume auto"):
        run(tiny(), resume="nowhere")
    assert not os.listdir()


def test_changed_settings_and_bits_are_told_or_refused(
    whole: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(whole.folder / "checkpoints" / "step-000004")
    text = io.StringIO()
    run(tiny("optim.weight_decay=0.5"), resume=path, text=text)
    assert "optim weight decay: was" in " ".join(text.getvalue().split())

    monkeypatch.setattr(np, "__version__", "1.2.3")
    text = io.StringIO()
    run(tiny(), resume=path, text=text)
    assert "is 1.2.3" in " ".join(text.getvalue().split())
    with pytest.raises(ConfigError, match=r"other_bits.*numpy: was"):
        run(tiny("checkpoint.other_bits=refuse"), resume=path)


def test_a_left_over_is_removed_with_a_line(whole: TrainResult, tmp_path: Path) -> None:
    left = tmp_path / "kept" / "step-000002.tmp"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    text = io.StringIO()
    run(tiny("checkpoint.folder=kept"), text=text)
    assert "interrupted save left: step-000002.tmp" in " ".join(text.getvalue().split())
    assert not left.exists()


def test_checkpoints_know_cursor_and_score(whole: TrainResult) -> None:
    manifest = Reader.open(whole.folder / "checkpoints" / "step-000004").manifest
    assert manifest.cursor == 4 * 16
    assert manifest.metric is not None
    assert 0 <= manifest.metric <= 1


def test_ranks_own_parameters_at_another_number_need_a_word() -> None:
    """`checkpoint.layerwise`, or `key=value`, says what they get."""
    private = ("parallel.override=[{match='*bias', layerwise_parallel=true}]",)
    run(tiny(*private, "run.folder=first", "train.steps=4"), 2)
    with pytest.raises(CheckpointMismatch, match=r"2 slices of shape \(10,\)"):
        run(tiny(*private, "run.folder=second"), 4, resume="first")
    text = io.StringIO()
    job = tiny(*private, "run.folder=second", "checkpoint.layerwise=from_rank:1")
    assert run(job, 4, resume="first", text=text).num_steps == 6
    told = " ".join(text.getvalue().split())  # the console breaks lines
    assert "2 slices of shape (9,) became" in told
    with pytest.raises(ConfigError, match=r'"by_key" or "from_rank:K"'):
        tiny("checkpoint.layerwise=average")
