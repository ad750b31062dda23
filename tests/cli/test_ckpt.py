"""`pparams ckpt`: what the verbs say, do, and end with."""

import io
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from parallel_params.checkpoint.folder import find_newest
from parallel_params.checkpoint.matching import match
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.reads import reads_of
from parallel_params.cli.app import app
from parallel_params.comm.local import run_threads
from parallel_params.errors import CheckpointError, CheckpointMismatch
from parallel_params.plan.codec import decode
from parallel_params.plan.transfer import transfer
from parallel_params.train.build import job_plan
from parallel_params.train.config import load_job
from parallel_params.train.console import Console
from parallel_params.train.loop import train

DIGITS = Path(__file__).parents[2] / "configs" / "digits.toml"
SMALL = ("data.batch=16", "model.hidden=[9]", "parallel.shard_threshold=64")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ckpt") / "run"
    words = ("train.steps=4", "train.eval_every=2", "checkpoint.every=2")
    job = load_job(
        DIGITS, [*SMALL, *words, f"run.folder={folder}", "optim.schedule.warmup=1"]
    )
    console = Console(stream=io.StringIO())
    run_threads(2, lambda comm: train(job, comm, console))
    return folder


@pytest.fixture
def kept(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of two checkpoints, to be worked on."""
    source = run_folder / "checkpoints"
    return Path(shutil.copytree(source, tmp_path / "checkpoints"))


def say(*words: object, code: int = 0) -> str:
    answer = CliRunner().invoke(app, ["ckpt", *map(str, words)])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    assert answer.exit_code == code, answer.output
    return answer.output


def test_ls_lists_whole_and_broken_ones_and_what_is_left_over(kept: Path) -> None:
    (kept / "step-000009.tmp").mkdir()
    (kept / "step-000002" / "model.safetensors").unlink()
    text = say("ls", kept)
    assert "left over" in text
    assert "step-000002: " in text
    facts = {each["name"]: each for each in json.loads(say("ls", kept, "--json"))}
    assert facts["step-000004"]["step"] == 4
    assert facts["step-000004"]["num_ranks"] == 2
    assert "problem" in facts["step-000002"]


@pytest.mark.parametrize("verb", ["ls", "show", "verify"])
def test_a_run_folder_stands_for_its_checkpoints(kept: Path, verb: str) -> None:
    assert say(verb, kept.parent) == say(verb, kept)


def test_show_names_tensors_and_extras(kept: Path) -> None:
    text = say("show", kept)
    assert "step-000004: step 4" in text
    assert "moment1.0.weight" in text
    assert json.loads(say("show", kept / "step-000002", "--json"))["cursor"] == 32


def test_verify_tells_whole_from_bad(kept: Path) -> None:
    assert say("verify", kept).count("whole ") == 2
    path = kept / "step-000002" / "optim.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    text = say("verify", kept, code=1)
    assert text.count("whole ") == text.count("bad ") == 1
    assert "optim.safetensors" in text
    say("verify", kept / "step-000004")


def test_diff_says_what_fits_and_what_every_rank_would_read(kept: Path) -> None:
    same = say("diff", kept, DIGITS, *SMALL, "-n", 4, "parallel.level=3")
    assert "all tensors fit" in same
    assert "saved by 2 ranks at level 1; here 4 ranks at level 3" in same
    other = say("diff", kept, DIGITS, *SMALL, "model.hidden=[8]")
    assert "stays as it is" in other
    assert "shape" in other


def test_what_a_rank_would_read_is_what_a_transfer_of_plans_says(kept: Path) -> None:
    manifest = Reader.open(find_newest(kept)).manifest
    old = decode(dict(manifest.plan))
    for num_ranks, level in ((1, 0), (2, 2), (4, 3)):
        job = load_job(DIGITS, [*SMALL, f"parallel.level={level}"])
        new = job_plan(job, num_ranks, None)
        found = match(
            manifest,
            new,
            where="",
            is_strict=True,
            weights_only=False,
            layerwise="fail",
        )
        pieces = transfer(old, new).pieces
        for rank in range(num_ranks):
            own = [piece for piece in pieces if piece.target == rank]
            had = sum(piece.num_bytes for piece in own if piece.source == rank)
            reads = reads_of(old, new, rank, found)
            assert (reads.read, reads.anew) == (sum(p.num_bytes for p in own), 0)
            # A transfer takes a piece from the rank itself only if it had all of it.
            assert had <= reads.had <= reads.read


def test_diff_says_what_ranks_own_parameters_would_get(kept: Path) -> None:
    own = "parallel.override=[{match='*bias', layerwise_parallel=true}]"
    words = (kept, DIGITS, *SMALL, own, "-n", 2)
    with pytest.raises(CheckpointMismatch, match="1 slice of shape"):
        say("diff", *words)
    told = say("diff", *words, "checkpoint.layerwise=mean")
    assert "1 slice of shape (9,) became 2 of shape (9,), as layerwise says" in told
    assert "it had" in told


def test_what_is_exported_for_torch_comes_back_by_import(
    kept: Path, tmp_path: Path
) -> None:
    say("export", kept, tmp_path / "w.safetensors", "--names", "torch")
    job = tmp_path / "job.toml"
    job.write_text(DIGITS.read_text().replace("[256, 128]", "[9]"))
    text = say("import", tmp_path / "w.safetensors", tmp_path / "in", "--for", job)
    assert "4 parameters" in text
    say("verify", tmp_path / "in")
    say("export", kept, tmp_path / "w.npz", "--names", "theirs", code=2)


def test_prune_keeps_the_newest_and_the_best(kept: Path) -> None:
    (kept / "step-000009.tmp").mkdir()
    text = say("prune", kept, "--keep", 1, "--no-best")
    assert "step-000002" in text
    assert "step-000009.tmp" in text
    assert sorted(path.name for path in kept.iterdir()) == ["latest", "step-000004"]
    assert say("prune", kept, "--keep", 1) == "nothing to remove\n"


def test_all_verbs_work_on_shards(tmp_path: Path) -> None:
    words = ["train.steps=4", "train.eval_every=2", "optim.schedule.warmup=1"]
    words += ["checkpoint.every=2", "checkpoint.layout=shards"]
    job = load_job(DIGITS, [*SMALL, *words, f"run.folder={tmp_path / 'run'}"])
    console = Console(stream=io.StringIO())
    run_threads(2, lambda comm: train(job, comm, console))
    kept = tmp_path / "run" / "checkpoints"
    (listed, _) = json.loads(say("ls", kept, "--json"))
    assert (listed["layout"], listed["step"]) == ("shards", 2)
    shown = say("show", kept)
    assert "layout: shards" in shown
    assert "shard-00002-model-00001-of-0000" in shown
    assert say("verify", kept).count("whole ") == 2
    assert "all tensors fit" in say("diff", kept, DIGITS, *SMALL, "-n", 4)
    say("export", kept, tmp_path / "w.safetensors", "--state")
    say("import", tmp_path / "w.safetensors", tmp_path / "in")
    assert "moment1.0.weight" in say("show", tmp_path / "in")
    say("prune", kept, "--keep", 1, "--no-best")
    assert sorted(path.name for path in kept.iterdir()) == ["latest", "step-000004"]


def test_verify_tells_an_absent_folder_from_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is not there: expected"):
        say("verify", tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="has no checkpoint in it: expected"):
        say("verify", tmp_path)
    (tmp_path / "w.npz").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"w\.npz is no folder: expected"):
        say("verify", tmp_path / "w.npz")


def test_ls_sends_a_checkpoint_itself_to_the_verb_for_it(kept: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a checkpoint itself .* ckpt show"):
        say("ls", kept / "step-000004")


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    for words in (
        ("ls", tmp_path / "nowhere"),
        ("show", tmp_path),
        ("verify", tmp_path),
        ("prune", tmp_path / "nowhere", "--keep", 1),
    ):
        with pytest.raises(CheckpointError):
            say(*words)
