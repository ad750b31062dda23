"""A tiny job, whole: the same bits on any world, and a run folder with everything."""

import dataclasses
import io
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks
from safetensors.numpy import load_file

from parallel_params.comm.local import run_threads, solo
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.threads import LocalCommunicator
from parallel_params.errors import (
    CommunicationError,
    ConfigError,
    DataError,
    PlanMismatch,
    RunFolderExists,
    TrainingDiverged,
)
from parallel_params.plan import codec
from parallel_params.plan.guards import Clip, LossScale
from parallel_params.plan.policy import Level, Policy
from parallel_params.train.build import job_plan, make_policy
from parallel_params.train.config import Job, load_job
from parallel_params.train.config.job import Parallel
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
    "train.steps=4",
    "train.eval_every=3",
    "log.every=2",
)


def tiny(*overrides: str) -> Job:
    return load_job(DIGITS, [*TINY, *overrides])


def run(job: Job, size: int, *, text: io.StringIO | None = None) -> TrainResult:
    """Train a job on threads; all ranks must agree on how it ended."""
    console = Console(stream=text or io.StringIO())
    results = run_threads(size, lambda comm: train(job, comm, console))
    timeless = {dataclasses.replace(r, seconds=0, samples_per_s=0) for r in results}
    assert len(timeless) == 1
    return results[0]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def outcome(result: TrainResult) -> tuple[object, ...]:
    model = load_file(result.folder / "model.safetensors")
    weights = tuple((name, model[name].tobytes()) for name in sorted(model))
    return result.weights_hash, result.loss, result.test_score, weights


@pytest.mark.slow  # nine runs
@pytest.mark.parametrize("transport", ["window", "messages"])
def test_worlds_levels_and_transports_do_not_change_one_bit(transport: str) -> None:
    jobs = [
        tiny(f"parallel.level={level}", f"parallel.transport={transport}")
        for level in range(4)
    ]
    outcomes = {outcome(run(job, size)) for job in jobs for size in (2, 4)}
    assert outcomes == {outcome(run(tiny(), 1))}


def test_clipping_and_a_scale_of_the_loss_train_the_same_bits_on_two_ranks() -> None:
    job = tiny("optim.clip_norm=0.1", "optim.loss_scale=1024", "parallel.level=2")
    assert outcome(run(job, 1)) == outcome(run(job, 2)) != outcome(run(tiny(), 2))


@pytest.mark.slow  # three runs each
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamweightdecay"])
def test_every_optimizer_trains_the_same_bits_on_two_ranks(name: str) -> None:
    job = tiny(f"optim={{name='{name}', lr=0.05}}")
    alone, together = run(job, 1), run(job, 2)
    assert outcome(alone) == outcome(together)
    assert outcome(alone) != outcome(run(tiny(), 1))


@pytest.mark.mpi
def test_a_world_trains_the_bits_of_one_rank_alone(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        # Three and five ranks cannot share four grains: those only have to agree.
        grains = 4 if 4 % comm.size == 0 else comm.size
        job = tiny("data.batch=60", f"parallel.grains={grains}")
        console = Console(stream=io.StringIO())
        together = train(job, comm, console).weights_hash
        alone = train(job, solo(), console).weights_hash if grains == 4 else together
        same = set(comm.all_gather_bytes(together.encode())) == {alone.encode()}
        assert_on_all_ranks(comm, same, f"{together}, alone {alone}")

    on_ranks(body)


def test_another_seed_gives_other_weights() -> None:
    assert run(tiny("seed=8"), 1).weights_hash != run(tiny(), 1).weights_hash


@pytest.mark.slow  # the whole job, 600 steps
def test_the_shipped_job_reaches_its_accuracy() -> None:
    # Seeds 0 to 9 end between 0.942 and 0.967; scikit-learn's MLP at 0.906.
    assert run(load_job(DIGITS), 1).test_score >= 0.93


@pytest.mark.slow  # learning takes steps
def test_a_small_model_learns_too() -> None:
    job = load_job(DIGITS.with_name("digits-small.toml"), ["train.epochs=5"])
    assert run(job, 1).test_score > 0.8


def test_a_run_folder_has_all_it_takes_to_repeat_the_run() -> None:
    job = tiny("run.folder=out")
    console = Console(stream=io.StringIO())
    run_threads(2, lambda comm: train(job, comm, console, source=DIGITS))
    names = {str(path) for path in Path("out").rglob("*") if path.is_file()}
    assert names == {
        f"out/{name}"
        for name in (
            "job.toml",
            "job.resolved.toml",
            "plan.json",
            "env.json",
            "metrics.jsonl",
            "model.safetensors",
            "report.html",
            "result.json",
            "logs/rank-0000.log",
            "logs/rank-0001.log",
        )
    }
    assert Path("out/job.toml").read_bytes() == DIGITS.read_bytes()
    assert load_job("out/job.resolved.toml") == job
    plan = codec.loads(Path("out/plan.json").read_text(encoding="utf-8"))
    assert plan == job_plan(job, 2)
    environment = json.loads(Path("out/env.json").read_text(encoding="utf-8"))
    assert environment["num_ranks"] == 2
    assert {b["num_threads"] for b in environment["bits"]["blas"]} <= {1}
    assert environment["bits"]["grains"] == 4


def test_metrics_have_a_line_per_row() -> None:
    folder = run(tiny(), 2).folder
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [2, 3, 4]
    assert ["test_accuracy" in row for row in rows] == [False, True, True]
    assert rows[2]["epoch"] == pytest.approx(4 * 16 / 1437, abs=1e-4)
    assert all(row["samples_per_s"] > 0 and row["lr"] > 0 for row in rows)


def test_the_first_rank_says_what_is_done_and_what_came_out() -> None:
    text = io.StringIO()
    result = run(tiny("run.folder=out", "title=x"), 2, text=text)
    said = text.getvalue()
    assert said.count("parallel_params") == 1
    assert "| 2 ranks on 1 node | 2 threads | 1 BLAS thread each\n" in said
    job = "digits (seed 7): mlp 64-9-10, 685 parameters, adamw, 4 steps of 16 samples\n"
    assert f"job   {job}" in said.replace("\n      ", " ")
    assert all(len(line) < 80 for line in said.splitlines())
    assert f"plan  {result.plan_digest[:12]}" in said
    assert "  step 3/4  loss " in said
    assert f"bits  weights {result.weights_hash}\n" in said
    assert "out/report.html" in said
    assert "\r" not in said


def test_a_report_shows_curves_mistakes_holdings_and_environment() -> None:
    result = run(tiny("title=a <b>"), 2)
    page = (result.folder / "report.html").read_text("utf-8")
    assert "a &lt;b&gt;" in page
    assert page.count("<polyline") == 2
    for part in (
        f"<b>{result.test_score:.4f}</b>",
        "taken for",
        "What is sharded where",
        ">rank 1</text>",
        "this rank has sent",
        f"<td>{np.__version__}</td>",
        result.weights_hash,
        "[optim]",
    ):
        assert part in page
    for outside in ("http:", "https:", "<script", "<b>a"):
        assert outside not in page


def test_a_report_draws_the_loss_of_every_step() -> None:
    page = (run(tiny(), 1).folder / "report.html").read_text("utf-8")
    curve = page.partition('<polyline class="line" points="')[2].partition('"')[0]
    assert len(curve.split()) == 4  # steps, of which three are noted


def test_the_weights_of_a_layerwise_parameter_are_kept_for_every_rank() -> None:
    flag = "parallel.override=[{match='0.weight', layerwise_parallel=true}]"
    folder = run(tiny(flag), 2).folder
    model = load_file(folder / "model.safetensors")
    assert set(model) == {
        "0.weight@rank0",
        "0.weight@rank1",
        "0.bias",
        "1.weight",
        "1.bias",
    }
    assert not np.array_equal(model["0.weight@rank0"], model["0.weight@rank1"])


def test_a_run_folder_that_is_there_is_refused_before_anything_is_written() -> None:
    Path("out").mkdir()
    with pytest.raises(RunFolderExists):
        run(tiny("run.folder=out"), 2)
    assert list(Path("out").iterdir()) == []


def refusal(size: int, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        run(tiny(*overrides), size)
    assert not Path("runs").exists()
    return str(caught.value)


def test_what_a_job_asks_for_reaches_the_policy() -> None:
    job = tiny(
        "parallel.override=[{match='1.*', level=0}, {match='*.bias', comm_fusion=0}]",
        "parallel.transport=messages",
        "parallel.wire_dtype=bfloat16",
        "parallel.master_weights=false",
        "parallel.memory_limit=1 GiB",
        "optim.clip_norm=2",
        "optim.clip_value=0.5",
        "optim.clip_per=parameter",
        "optim.non_finite=skip",
        "optim.loss_scale=dynamic",
    )
    policy = job_plan(job, 2).policy
    assert policy.overrides == (("1.*", Level.NOTHING),)
    assert (policy.transport, policy.wire_dtype) == ("messages", "bfloat16")
    assert (policy.master_weights, policy.memory_limit_bytes) == (False, 2**30)
    assert policy.clip == Clip(norm=2.0, value=0.5, per="parameter")
    assert (policy.non_finite, policy.loss_scale) == ("skip", LossScale())
    fixed = job_plan(tiny("optim.loss_scale=8"), 2).policy
    assert fixed.loss_scale == LossScale(initial=8.0, interval=0)


def test_a_job_without_these_keys_has_the_defaults_of_a_policy() -> None:
    policy = make_policy(Parallel(), tiny().optim)
    assert policy == Policy()


def test_a_world_that_the_grains_do_not_fit_is_refused() -> None:
    assert refusal(3) == (
        "parallel.grains: 4 grains cannot be shared equally by 3 ranks; a world of "
        "1, 2, 4 ranks works, or parallel.grains=6"
    )


def test_a_world_that_the_batch_does_not_fit_is_refused() -> None:
    job = dataclasses.replace(
        tiny(), parallel=dataclasses.replace(tiny().parallel, grains=None)
    )
    with pytest.raises(ConfigError) as caught:
        job_plan(job, 3)
    assert str(caught.value) == (
        "data.batch: 16 samples cannot be cut into 3 equal parts, one per rank; the "
        "nearest batches are 15 or 18, the nearest worlds 2 or 4"
    )


def test_an_override_of_flags_that_matches_nothing_is_refused() -> None:
    flag = "parallel.override=[{match='0.wieght', comm_fusion=0}]"
    assert refusal(2, flag) == (
        "parallel.override.0.match: no parameter is called '0.wieght'; did you mean "
        '"0.weight"? There are 0.weight, 0.bias, 1.weight, 1.bias'
    )


def test_overrides_of_flags_reach_the_plan() -> None:
    job = tiny(
        "parallel.override=[{match='*', comm_fusion=0}, "
        "{match='*.weight', parallel_optimizer=false}]"
    )
    plan = job_plan(job, 2)
    flags = {s.name: (s.comm_fusion, s.parallel_optimizer) for s in plan.params}
    assert flags["0.weight"] == flags["1.weight"] == (0, False)
    assert flags["0.bias"] == (0, True)


def test_missing_data_is_refused_before_a_folder_is_made() -> None:
    with pytest.raises(DataError, match="no such data file"):
        run(tiny("data={name='npz', path='none.npz', batch=16}"), 2)
    assert not Path("runs").exists()


def test_samples_of_an_npz_file_are_trained_on() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((40, 2, 3)), np.arange(40) % 3
    np.savez("mine.npz", x=x, y=y, test_x=x, test_y=y)
    job = tiny("data={name='npz', path='mine.npz', batch=16}")
    assert outcome(run(job, 1)) == outcome(run(job, 2))


def test_ranks_with_other_jobs_are_told_so() -> None:
    def body(comm: Communicator) -> TrainResult:
        job = tiny(f"train.steps={4 + (comm.rank == 1)}")
        return train(job, comm, Console(stream=io.StringIO()))

    with pytest.raises(PlanMismatch, match="the job is not the same on all ranks"):
        run_threads(2, body)


def test_a_loss_that_is_no_number_ends_the_run_on_all_ranks() -> None:
    words = "optim={name='sgd', lr=1e30, non_finite='ignore'}"
    with pytest.raises(TrainingDiverged, match=r"the loss is (nan|inf) at step \d+"):
        run(tiny(words, "train.steps=50"), 2)


def test_a_gradient_that_is_no_number_ends_the_run_with_one_sentence() -> None:
    said = (
        r"^step 2 \(learning rate 1e\+30\): the gradient of '\d.weight' from rank 0 "
        r"is not finite at element \d+ .*; lower optim.lr, .*\n?.*$"
    )
    with pytest.raises(TrainingDiverged, match=said):
        run(tiny("optim={name='sgd', lr=1e30}"), 2)


def test_steps_that_are_not_finite_can_be_skipped_and_are_counted() -> None:
    result = run(tiny("optim={name='sgd', lr=1e30, non_finite='skip'}"), 1)
    assert result.num_steps == 4
    page = (result.folder / "report.html").read_text("utf-8")
    assert "3 steps skipped: a gradient was not finite" in page
    lines = (result.folder / "metrics.jsonl").read_text("utf-8")
    assert '"loss": null' in lines
    assert "NaN" not in lines


def test_a_run_says_why_it_does_not_share_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise CommunicationError("no room in /dev/shm")

    monkeypatch.setattr(LocalCommunicator, "share", refuse)
    text = io.StringIO()
    result = run(tiny(), 2, text=text)
    note = "messages instead of shared memory: no room in /dev/shm"
    assert f"note  {note}" in text.getvalue()
    assert note in (result.folder / "report.html").read_text("utf-8")


def test_epochs_are_rounded_up_to_whole_batches() -> None:
    job = load_job(DIGITS.with_name("digits-small.toml"), ["train.epochs=1"])
    result = run(dataclasses.replace(job, run=tiny("run.folder=o").run), 1)
    assert result.num_steps == -(-1437 // 32)


def test_a_run_is_named_by_the_moment_the_first_rank_started() -> None:
    console = Console(stream=io.StringIO(), is_quiet=True)
    result = train(tiny(), solo(), console, now=lambda: datetime(2026, 1, 2, 3, 4, 5))
    assert str(result.folder) == "runs/digits/2026-01-02_030405"
