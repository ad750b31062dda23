"""Jobs on a mesh learn what they learn on one rank, and wrong meshes are refused."""

# ruff: noqa: E501  the sentences stand as a user sees them, whole

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parallel_params.comm.local import run_threads
from parallel_params.errors import ConfigError, PlanError
from parallel_params.plan import codec
from parallel_params.train.build import check_world, job_plan
from parallel_params.train.config import Job, load_job
from parallel_params.train.config.dump import dump_job
from parallel_params.train.console import Console
from parallel_params.train.loop import train
from parallel_params.train.result import TrainResult

CONFIGS = Path(__file__).parents[2] / "configs"
# float32: sums along an axis are made in another order; few steps, rates below 0.01.
ROUNDING = 2e-6

GPT = (
    "data={name='tokens', path='t.bin', dtype='uint8', vocabulary=16, context=8, "
    "batch=8}",
    "model.layers=1",
    "model.width=16",
    "optim.schedule.warmup=1",
    "parallel.grains=4",
    "parallel.shard_threshold=64",
    "train={steps=3, eval_every=3}",
    "log.every=1",
)
EXPERTS = (
    "model.activation='gelu'",
    "model.experts={num=4, top_k=2, capacity_factor=4}",
)
CLASSES = (
    "data={name='clusters', batch=16, classes=40, features=6, tests=70, noise=0.1}",
    "model.hidden=[5]",
    "model.sampled=8",
    "optim.schedule.warmup=1",
    "train={steps=3, eval_every=3}",
    "log.every=1",
)


@pytest.fixture(autouse=True)
def _in_a_folder_with_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = np.random.default_rng(3).integers(0, 16, 700).astype(np.uint8)
    Path("t.bin").write_bytes(words.tobytes())
    Path("t.txt").write_bytes((words + 97).tobytes())


def gpt(*overrides: str) -> Job:
    return load_job(CONFIGS / "gpt-tiny.toml", [*GPT, *overrides])


def classes(*overrides: str) -> Job:
    return load_job(CONFIGS / "classes.toml", [*CLASSES, *overrides])


def run(job: Job, size: int, **options: Any) -> tuple[TrainResult, list[Any]]:
    """Train a job on threads; return how it ended and the rows of its metrics."""
    console = Console(stream=io.StringIO())
    result = run_threads(size, lambda comm: train(job, comm, console, **options))[0]
    lines = (result.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return result, [json.loads(line) for line in lines]


def losses(rows: list[Any]) -> list[float]:
    return [row["loss"] for row in rows]


@pytest.mark.parametrize("words", ["", "model.cut_words=true"])
@pytest.mark.parametrize(
    ("mesh", "level"), [("{model=2, data=2}", 1), ("{data=0, model=2}", 3)]
)
def test_a_cut_gpt_learns_as_a_whole_one(mesh: str, level: int, words: str) -> None:
    size = 4 if "data=2" in mesh else 2
    alone, wanted = run(gpt("model.dropout=0.1"), 1)
    job = gpt("model.dropout=0.1", f"parallel.mesh={mesh}", f"parallel.level={level}")
    if words:
        job = gpt("model.dropout=0.1", f"parallel.mesh={mesh}", words)
    found, rows = run(job, size)
    assert np.allclose(losses(rows), losses(wanted), rtol=ROUNDING, atol=0)
    assert found.test_score == pytest.approx(alone.test_score, rel=ROUNDING)
    mesh_of_plan = codec.loads(
        (found.folder / "plan.json").read_text(encoding="utf-8")
    ).mesh
    # The axis that is cut runs fastest, however the table names the axes.
    assert mesh_of_plan.axes == ("data", "model")
    assert load_job(found.folder / "job.resolved.toml") == job


def test_a_cut_gpt_says_what_a_whole_one_says() -> None:
    text = ("data={name='text', path='t.txt', context=8, batch=8}", "train.steps=2")
    alone, _ = run(gpt(*text), 1)
    found, _ = run(gpt(*text, "parallel.mesh={model=2}"), 2)
    said = [(r.folder / "samples.txt").read_text("utf-8") for r in (alone, found)]
    assert said[0] == said[1] != ""


@pytest.mark.parametrize("mesh", ["{expert=2}", "{data=2, expert=2}"])
def test_experts_on_ranks_learn_as_on_one_while_nothing_is_dropped(mesh: str) -> None:
    size = 4 if "data" in mesh else 2
    alone, wanted = run(gpt(*EXPERTS), 1)
    found, rows = run(gpt(*EXPERTS, f"parallel.mesh={mesh}"), size)
    assert np.allclose(losses(rows), losses(wanted), rtol=ROUNDING, atol=0)
    assert found.test_score == pytest.approx(alone.test_score, rel=ROUNDING)
    assert [row["dropped"] for row in rows] == [0, 0, 0]


def test_what_experts_drop_is_in_the_metrics() -> None:
    tight = "model.experts.capacity_factor=0.5"
    _, rows = run(gpt(*EXPERTS, tight, "parallel.mesh={expert=2}"), 2)
    # Half of the choices find room, at most.
    assert all(0.5 <= row["dropped"] < 1 for row in rows)


@pytest.mark.parametrize("mesh", ["{classes=4}", "{data=2, classes=2}"])
def test_classes_on_ranks_are_learned_as_on_one(mesh: str) -> None:
    whole = ("parallel.grains=4", "model.sampled=10")
    job = classes(*whole, f"parallel.mesh={mesh}", "model={kind='classes', hidden=[5]}")
    one = classes(
        *whole, "parallel.mesh={classes=1}", "model={kind='classes', hidden=[5]}"
    )
    alone, wanted = run(one, 1)
    found, rows = run(job, 4)
    assert np.allclose(losses(rows), losses(wanted), rtol=ROUNDING, atol=0)
    # 70 test samples are two pieces on four ranks: all have to be in the same passes.
    assert found.test_score == alone.test_score


@pytest.mark.parametrize("kind", ["model", "expert", "classes"])
def test_a_job_goes_on_from_its_checkpoint_at_the_same_mesh(kind: str) -> None:
    common = ("checkpoint.every=2", "run.folder=out")
    mesh = f"parallel.mesh={{data=2, {kind}=2}}"
    make = classes if kind == "classes" else gpt
    own = EXPERTS if kind == "expert" else ()

    def job(*overrides: str) -> Job:
        return make(*own, *overrides)

    whole, _ = run(job(mesh), 4)
    short, _ = run(job(mesh, *common), 4)
    saved = short.folder / "checkpoints"
    again, _ = run(job(mesh), 4, resume=str(saved / "step-000002"))
    assert again.weights_hash == whole.weights_hash
    assert again.loss == whole.loss


@pytest.mark.parametrize(
    ("saved", "here"),
    [
        (("{data=2, model=2}", 4), ("{data=0, model=1}", 1)),
        (("{data=2, model=2}", 4), ("{model=2}", 2)),
        (("{data=0, model=1}", 2), ("{data=0, model=2}", 4)),
        # Without the axis it is another net, whose matrices are packed.
        (("{data=2, model=2}", 4), ("{data=0}", 1)),
        (("{data=2}", 2), ("{data=0, model=2}", 4)),
    ],
)
def test_a_job_goes_on_at_another_mesh_with_slices_cut_anew(
    saved: tuple[str, int], here: tuple[str, int]
) -> None:
    """The last step is that of the run that never stopped, but for rounding."""

    def job(mesh: str, *overrides: str) -> Job:
        return gpt(f"parallel.mesh={mesh}", *overrides)

    whole, wanted = run(job(saved[0]), saved[1])
    short, _ = run(job(saved[0], "checkpoint.every=2", "run.folder=out"), saved[1])
    origin = short.folder / "checkpoints" / "step-000002"
    said = io.StringIO()
    again = run_threads(
        here[1],
        lambda comm: train(
            job(here[0]), comm, Console(stream=said), resume=str(origin)
        ),
    )[0]
    assert np.allclose(again.loss, losses(wanted)[-1], rtol=ROUNDING, atol=0)
    assert again.test_score == pytest.approx(whole.test_score, rel=ROUNDING)
    assert again.num_steps == whole.num_steps == 3
    is_other = saved[0].count("model=2") != here[0].count("model=2")
    assert ("cut anew along dim" in said.getvalue()) == is_other


OWN = """
from parallel_params import nn
from parallel_params.nn import parallel

def model(shape, num, *, axis):
    return nn.SequentialCell(
        parallel.ColumnParallelDense(shape[0], 8, axis=axis),
        parallel.RowParallelDense(8, num, axis=axis),
    )
"""


def test_a_function_is_given_the_axis() -> None:
    Path("own_mesh_model.py").write_text(OWN, encoding="utf-8")
    model = "model={kind='function', function='own_mesh_model:model'}"
    job = load_job(
        CONFIGS / "classes.toml",
        [each for each in CLASSES if not each.startswith("model")]
        + [model, "parallel.mesh={data=0, model=2}"],
    )
    plan = job_plan(job, 4)
    assert plan.bucket_of("0.weight").axes == ("data",)
    result, _ = run(job, 4)
    assert result.plan_digest == plan.digest


REFUSED = [
    (
        ("parallel.mesh={data=2, model=3}",),
        4,
        r"parallel.mesh: { data = 2, model = 3 } is of 6 ranks and the world has 4; the "
        r"nearest meshes of 4 are { data = 2, model = 2 } or { data = 4, model = 1 }$",
    ),
    (
        ("parallel.mesh={data=0, model=4}",),
        6,
        # Two heads: an axis of four never works.
        r"is of a multiple of 4 ranks and the world has 6; no mesh of 6 works; start 4 "
        r"ranks with { data = 2, model = 2 } or { data = 4, model = 1 }$",
    ),
    (
        ("parallel.mesh={data=0, model=4}",),
        4,
        r"model.heads: 2 cannot be cut into 4 equal parts along axis 'model' of "
        r"parallel.mesh; an axis of 1, 2 ranks works: the nearest meshes of 4 are "
        r"{ data = 2, model = 2 } or { data = 4, model = 1 }$",
    ),
    (
        ("parallel.mesh={model=2}", "model.hidden=15"),
        2,
        r"model.hidden: 15 cannot be cut into 2 equal parts .* an axis of 1 rank works",
    ),
    (
        ("parallel.mesh={data=2}", *EXPERTS),
        2,
        r"model.experts.axis: parallel.mesh has no axis 'expert', it has data; say mesh "
        r"= { data = 2, expert = 2 }",
    ),
    (
        ("parallel.mesh={expert=2}", *EXPERTS, "model.experts.num=3"),
        2,
        r"model.experts.num: 3 cannot be cut into 2 equal parts along axis 'expert'",
    ),
    (
        ("parallel.mesh={data=2}", "parallel.layerwise_axis=tensor"),
        2,
        r"parallel.layerwise_axis: parallel.mesh has no axis 'tensor'",
    ),
    (
        ("parallel.mesh={data=2, model=2}", *EXPERTS),
        4,
        r"'model', so its 2 ranks would do the same work",
    ),
    (
        ("parallel.mesh={data=3, model=2}",),
        6,
        r"4 grains cannot be shared equally by 3 shares; 1, 2, 4 shares \(ranks along data\) "
        r"work, or parallel.grains=6; no mesh of 6 works; start 4 ranks with { data = 2, model = 2 }",
    ),
    (
        ("parallel.mesh={data=0, model=2}",),
        6,
        r"work, or parallel.grains=6; no mesh of 6 works; start 4 or 8 ranks$",
    ),
    (
        ("parallel.mesh={data=4, tensor=2}", "parallel.layerwise_axis=tensor"),
        8,
        # An axis that is not called model cuts the batch as well.
        r"grains cannot be shared equally by 8 ranks; .* \(ranks along data, tensor\) work, "
        r"or parallel.grains=8; no mesh of 8 works; start 4 ranks with { data = 2, tensor = 2 }",
    ),
    (
        ("parallel={mesh={data=3, model=2}}", "data.batch=8"),
        6,
        r"data.batch: 8 samples cannot be cut into 3 equal parts, one per share; .*; no mesh of 6 "
        r"works; start 4 ranks with { data = 2, model = 2 } or { data = 4, model = 1 }$",
    ),
    (
        (
            "parallel.mesh={data=0, model=2}",
            "model.cut_words=true",
            "data.vocabulary=17",
        ),
        4,
        r"model.cut_words: the vocabulary: 17 cannot be cut into 2 equal parts .* an axis of 1 "
        r"rank works: the nearest mesh of 4 is { data = 4, model = 1 }$",
    ),
    (
        # Two heads, so no axis of three; four grains, so no three shares.
        ("parallel.mesh={data=0, model=2}",),
        3,
        r"the world has 3; no mesh of 3 works; start 2 or 4 ranks",
    ),
    (
        # Shares of 3 do not go into 4 grains, so 6 ranks are not offered.
        ("parallel.mesh={data=0, model=2}",),
        7,
        r"the world has 7; no mesh of 7 works; start 4 or 8 ranks",
    ),
    (("model.cut_words=true",), 1, r"model.cut_words: there is no axis to cut along"),
]


@pytest.mark.parametrize(("overrides", "size", "message"), REFUSED)
def test_what_a_mesh_does_not_fit_is_refused(
    overrides: tuple[str, ...], size: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        job_plan(gpt(*overrides), size)


def test_words_and_classes_that_the_data_alone_tell_are_refused_with_meshes() -> None:
    text = ("data={name='text', path='t.txt', context=8, batch=8}",)
    job = gpt(*text, "model.cut_words=true", "parallel.mesh={data=0, model=2}")
    Path("t.txt").write_text("abc" * 200, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"vocabulary: 3 .* is { data = 4, model = 1"):
        job_plan(job, 4)
    own = [each for each in CLASSES if not each.startswith("data")]
    job = load_job(CONFIGS / "classes.toml", [*own, "data={name='digits', batch=8}"])
    message = (
        r"data: the classes: 10 cannot be cut into 4 equal parts along axis 'classes' .* "
        r"an axis of 1, 2, 5, 10 ranks works: no mesh of 4 works; start 2 ranks$"
    )
    with pytest.raises(ConfigError, match=message):
        job_plan(job, 4)


def test_a_model_without_a_cut_is_refused_on_a_model_axis() -> None:
    job = load_job(CONFIGS / "digits.toml", ["parallel.mesh={data=2, model=2}"])
    with pytest.raises(
        ConfigError, match=r"nothing of model.kind = 'mlp' is cut along"
    ):
        check_world(job, 4)


def test_a_head_that_fits_no_rank_alone_is_refused_with_the_numbers() -> None:
    job = load_job(CONFIGS / "classes.toml")
    refusal = (
        r"rank 0 would hold 97.7 MiB, but .*32.0 MiB.* "
        r"Use 4 ranks as Mesh\(classes=4\) \(24.5 MiB a rank\)"
    )
    with pytest.raises(PlanError, match=refusal):
        job_plan(job, 1)
    assert job_plan(job, 4).bytes_per_rank(0).total < 32 << 20


def test_a_mesh_survives_being_written() -> None:
    job = gpt("parallel.mesh={data=0, model=2}", "parallel.layerwise_axis=model")
    Path("again.toml").write_text(dump_job(job), encoding="utf-8")
    assert load_job("again.toml", ["run.name=gpt-tiny"]) == job
