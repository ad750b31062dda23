"""Models of jobs: what they take, what they refuse, and that they keep their laws."""

import io
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from parallel_params import nn
from parallel_params.comm.local import run_threads, solo
from parallel_params.errors import ConfigError, DataError
from parallel_params.tensor.random import Stream
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.build import build
from parallel_params.train.config import Job, load_job
from parallel_params.train.console import Console
from parallel_params.train.data.dataset import Interface
from parallel_params.train.data.load import load_data
from parallel_params.train.data.mnist import load_mnist
from parallel_params.train.data.texts import words_of
from parallel_params.train.loop import train
from parallel_params.train.losses import CrossEntropy, loss_of
from parallel_params.train.models.build import build_model, describe_model
from parallel_params.train.result import TrainResult
from parallel_params.train.tasks.choose import make_task
from parallel_params.train.tasks.speech import speak

CONFIGS = Path(__file__).parents[2] / "configs"
TEXT = "the cat sat on the mat, the rat sat on the hat; " * 30
TINY = (
    "data={name='text', path='t.txt', batch=8, context=12}",
    "model.layers=1",
    "model.width=16",
    "model.activation='gelu'",
    "model.norm='layer'",
    "model.positions='learned'",
    "model.bias=true",
    "parallel.shard_threshold=64",
    "optim.schedule.warmup=1",
    "train.steps=4",
    "train.eval_every=2",
    "log.every=1",
)
MODERN = (
    "model.activation='swiglu'",
    "model.norm='rms'",
    "model.positions='rotary'",
    "model.kv_heads=1",
    "model.bias=false",
    "model.tied=false",
    "model.dropout=0.1",
)


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text(TEXT, encoding="utf-8")


def tiny(*words: str) -> Job:
    return load_job(CONFIGS / "gpt-tiny.toml", [*TINY, *words])


def run(job: Job, size: int, *, text: io.StringIO | None = None) -> TrainResult:
    console = Console(stream=text or io.StringIO())
    results = run_threads(size, lambda comm: train(job, comm, console))
    assert len({(r.weights_hash, r.test_score) for r in results}) == 1
    return results[0]


@pytest.mark.parametrize("words", [(), MODERN], ids=["gpt-2", "modern"])
def test_a_language_model_has_the_same_bits_on_any_world(
    words: tuple[str, ...],
) -> None:
    results = [
        run(tiny(*words, f"parallel.level={level}"), size)
        for size, level in ((1, 0), (2, 1), (4, 3))
    ]
    assert len({(r.weights_hash, r.test_score) for r in results}) == 1


@pytest.mark.slow  # learning takes steps
def test_a_small_language_model_beats_the_counts_of_single_characters() -> None:
    long = ("train.steps=60", "train.eval_every=60", "optim.lr=0.02")
    wide = ("model.width=32", "model.positions='rotary'")
    result = run(tiny(*long, *wide), 1)
    counts = json.loads((result.folder / "result.json").read_text("utf-8"))["baselines"]
    assert set(counts) == {"unigram", "bigram", "trigram", "5-gram"}
    assert result.test_score < counts["unigram"] - 1.0


def test_what_a_model_says_is_shown_while_it_learns_and_afterwards() -> None:
    said = io.StringIO()
    folder = run(tiny(), 2, text=said).folder
    samples = (folder / "samples.txt").read_text("utf-8")
    assert samples.startswith("step 2\n")
    assert "\nstep 4\n" in samples
    assert "|" in samples
    assert "  bits/char " in said.getvalue()
    assert "        " + samples.splitlines()[1][:20] in said.getvalue()
    page = (folder / "report.html").read_text("utf-8")
    assert "What it says by itself" in page
    assert page.count("<pre class=speech>") == 2
    first, second, *_ = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    row = json.loads(first)
    assert row["bits_per_char"] == pytest.approx(row["loss"] / math.log(2))
    assert {"test_bits_per_char", "test_perplexity"} <= set(json.loads(second))


def test_a_word_is_told_from_those_before_it_alone() -> None:
    for words in ((), MODERN):
        net = build_model(tiny(*words).model, TOLD, seed=1)
        given = np.arange(12, dtype=np.int32)[np.newaxis] % 9
        other = given.copy()
        other[0, 7:] = 8
        one, two = (net(Tensor(each)).asnumpy() for each in (given, other))
        np.testing.assert_allclose(one[0, :7], two[0, :7], atol=1e-6)
        assert not np.allclose(one[0, 7:], two[0, 7:])
        assert one.shape == (1, 12, 9)


@pytest.mark.parametrize("is_tied", ["true", "false"])
def test_a_model_has_the_loss_of_its_outputs(is_tied: str) -> None:
    net = build_model(tiny(f"model.tied={is_tied}").model, TOLD, seed=1)
    rng = np.random.default_rng(0)
    x, y = (Tensor(rng.integers(0, 9, (2, 12)).astype(np.int32)) for _ in range(2))
    loss = CrossEntropy(label_smoothing=0.1)
    want = loss(net(x), y).item()
    assert loss_of(net, loss, x, y).item() == pytest.approx(want, rel=1e-6)


TOLD = Interface(sample_shape=(12,), num_outputs=9, is_text=True)


def test_a_tied_table_is_one_parameter() -> None:
    sizes = [
        sum(
            p.size for p in build_model(tiny(word).model, TOLD, seed=1).get_parameters()
        )
        for word in ("model.tied=true", "model.tied=false")
    ]
    assert sizes[1] - sizes[0] == 9 * 16


def test_bits_are_those_of_the_definition_and_of_all_test_words() -> None:
    job = tiny()
    dataset = load_data(job.data)
    trainee = build(job, dataset)
    task = make_task(job, dataset)
    found = task.evaluate(trainee.net, solo(), step=0)
    x, y = dataset.test_batch(0, dataset.num_test)
    scores = trainee.net(Tensor(x)).asnumpy().astype(np.float64)
    logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    nats = -np.take_along_axis(logs, y[..., np.newaxis].astype(np.int64), -1).mean()
    assert found.scores["bits_per_char"] == pytest.approx(nats / math.log(2), rel=1e-5)
    assert found.scores["perplexity"] == pytest.approx(math.exp(nats), rel=1e-4)


class Parrot(nn.Cell):
    """Is sure that the word after the last comes next, of 5."""

    def construct(self, words: Tensor) -> Tensor:
        following = (words.asnumpy() + 1) % 5
        return Tensor(np.float32(50) * np.eye(5, dtype=np.float32)[following])


def test_a_model_goes_on_by_its_own_words_and_never_beyond_its_context() -> None:
    seen: list[int] = []

    class Watched(Parrot):
        def construct(self, words: Tensor) -> Tensor:
            seen.append(words.shape[1])
            return super().construct(words)

    said = speak(Watched(), [3], num=7, context=4, keys=(1,))
    assert said == [4, 0, 1, 2, 3, 4, 0]
    assert seen == [1, 2, 3, 4, 4, 4, 4]


def test_what_is_drawn_follows_the_chances_of_the_model() -> None:
    class Fair(nn.Cell):
        def construct(self, words: Tensor) -> Tensor:
            row = np.log(np.array([0.5, 0.25, 0.25], np.float32))
            return Tensor(np.broadcast_to(row, (*words.shape, 3)).copy())

    said = speak(Fair(), [0], num=2000, context=1, keys=(3,), temperature=1.0)
    shares = np.bincount(said, minlength=3) / 2000
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.04)
    draws = Stream((3,)).uniform(0, 5)
    assert said[:5] == [int(d > 0.5) + int(d > 0.75) for d in draws]


def test_a_model_that_has_diverged_says_nothing() -> None:
    class Lost(nn.Cell):
        def construct(self, words: Tensor) -> Tensor:
            return Tensor(np.full((*words.shape, 3), np.nan, np.float32))

    assert speak(Lost(), [0], num=5, context=2, keys=(1,)) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("model.width=15",), "2 heads cannot share a width of 15 evenly"),
        (("model.heads=4", "model.kv_heads=3"), "3 cannot serve 4 heads evenly"),
        (("model.width=6", "model.positions='rotary'"), "odd width, 3"),
        (("data={name='digits', batch=8}",), "takes words, and the data are numbers"),
        (("model={kind='mlp', hidden=[4]}",), "takes numbers, and the data are words"),
        (("model={kind='convnet', channels=[4]}",), "and the samples are words"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(
    words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        run(tiny(*words), 2)
    assert not Path("runs").exists()


def convnet(*words: str) -> Job:
    short = ("train.steps=3", "train.eval_every=3", "optim.schedule.warmup=1")
    small = ("data.batch=16", "model.channels=[4, 6]", "model.hidden=[8]")
    return load_job(CONFIGS / "digits-conv.toml", [*short, *small, *words])


def test_a_convnet_has_the_same_bits_on_any_world() -> None:
    words = ("model.dropout=0.2", "model.norm=batch")
    hashes = {
        run(convnet(*words, f"parallel.level={level}"), size).weights_hash
        for size, level in ((1, 0), (2, 2), (4, 3))
    }
    assert len(hashes) == 1


def test_a_convnet_takes_flat_pictures_and_such_with_channels() -> None:
    model = convnet().model
    flat = Interface(sample_shape=(64,), num_outputs=3, picture=(8, 8))
    colored = Interface(sample_shape=(3, 9, 8), num_outputs=3)
    for interface in (flat, colored):
        x = Tensor(np.ones((2, *interface.sample_shape), np.float32))
        assert build_model(model, interface, seed=1)(x).shape == (2, 3)
    assert describe_model(model, colored) == "convnet 3x9x8, 4-6 channels, 8-3"
    for shape, said in (((5,), "shape"), ((2, 2), "halved 2 times")):
        with pytest.raises(ConfigError, match=said):
            build_model(model, Interface(sample_shape=shape, num_outputs=3), seed=1)


def test_the_moving_statistics_of_a_norm_are_kept_with_the_weights() -> None:
    folder = run(convnet("model.norm=batch"), 2).folder
    model = load_file(folder / "model.safetensors")
    (means,) = (model[name] for name in model if name == "2.moving_mean")
    assert means.shape == (4,)
    assert means.any()


def test_first_weights_are_a_function_of_the_seed() -> None:
    for model, interface in (
        (tiny().model, TOLD),
        (convnet().model, Interface(sample_shape=(8, 8), num_outputs=3)),
    ):
        nets = [build_model(model, interface, seed=seed) for seed in (1, 1, 2)]
        weights = [
            b"".join(p.asnumpy().tobytes() for p in net.get_parameters())
            for net in nets
        ]
        assert weights[0] == weights[1] != weights[2]


def test_the_extra_with_pictures_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'parallel-params\[mnist\]'"):
        load_mnist()


def test_another_table_in_the_place_of_the_pictures_is_refused() -> None:
    Path("m.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected 5000 rows of 784 pixels"):
        load_mnist(Path("m.csv"))


def test_letters_are_numbered_in_the_order_of_unicode() -> None:
    words = words_of("b€a" * 9, "a" * 9, context=2, source="x", facts={})
    assert words.letters == ["a", "b", "€"]
    assert words.train[:3].tolist() == [1, 2, 0]
    assert all(a < b for a, b in itertools.pairwise(words.letters or ()))
