"""Tasks: their metrics by definition, the same on any world, and their baselines."""

import io
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from parallel_params import nn
from parallel_params.comm.local import run_threads
from parallel_params.errors import ConfigError, DataError, RankFailed
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config import load_job
from parallel_params.train.config.loss import BY_TASK
from parallel_params.train.console import Console
from parallel_params.train.data.wine import load_wine
from parallel_params.train.loop import train
from parallel_params.train.losses import make_loss, mean_square
from parallel_params.train.result import TrainResult
from parallel_params.train.tasks.baselines import least_squares, nearest_mean
from parallel_params.train.tasks.ngrams import ngram_bits
from parallel_params.train.tasks.regression import Numbers, Regression, r2_score

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = (
    "train.steps=6",
    "train.eval_every=2",
    "log.every=2",
    "optim.schedule.warmup=1",
)

SPOTS = "{name='function', function='own_things:spots', batch=8}"
OWN = """
import numpy as np
from parallel_params import nn, ops


def spots(num=24, is_bad=False):
    x = np.arange(2.0 * num).reshape(num, 2)
    y = np.arange(num) % 3
    return (x, y, x) if is_bad else (x, y, x[:9], y[:9])


def texts():
    x = np.array([["a"], ["b"]])
    return x, np.arange(2), x, np.arange(2)


def rows():
    return np.arange(200) % 7, np.arange(60) % 7


def net(sample_shape, num_outputs, width=5):
    ends = (sample_shape[0], width), (width, num_outputs)
    return nn.SequentialCell(*(nn.Dense(*each) for each in ends))


def loss(outputs, answers, factor=1.0):
    return factor * ops.cross_entropy(outputs, answers)


def no_net(sample_shape, num_outputs):
    return 3
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_things", raising=False)
    Path("own_things.py").write_text(OWN, encoding="utf-8")


def run(name: str, size: int, *words: str) -> TrainResult:
    job = load_job(CONFIGS / f"{name}.toml", [*SHORT, *words])
    console = Console(stream=io.StringIO(), is_quiet=True)
    results = run_threads(size, lambda comm: train(job, comm, console))
    assert len({(r.weights_hash, r.test_score, r.best_step) for r in results}) == 1
    return results[0]


def test_a_regression_has_the_same_bits_and_scores_on_any_world() -> None:
    outcomes = {
        (r.weights_hash, r.test_score) for r in (run("wine", n) for n in (1, 2, 4))
    }
    assert len(outcomes) == 1


def test_a_run_is_put_beside_simple_methods() -> None:
    folder = run("wine", 1).folder
    result = json.loads((folder / "result.json").read_text("utf-8"))
    assert set(result["baselines"]) == {"mean", "least squares"}
    assert set(result["scores"]) == {"r2", "rmse"}
    page = (folder / "report.html").read_text("utf-8")
    assert "Beside simple methods" in page
    assert page.count("<circle") >= 36
    *_, last = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    assert {"test_r2", "test_rmse"} <= set(json.loads(last))


def test_r2_and_its_error_are_those_of_the_textbook() -> None:
    rng = np.random.default_rng(1)
    said, targets = rng.standard_normal((2, 30, 2))
    left = np.square(said - targets).sum(axis=0)
    total = np.square(targets - targets.mean(axis=0)).sum(axis=0)
    assert r2_score(said, targets) == pytest.approx(float((1 - left / total).mean()))
    assert r2_score(targets, targets) == 1.0
    assert r2_score(said, np.ones((30, 2))) == 0.0
    numbers = Numbers(said, targets, 3.0)
    want = 3 * math.sqrt(np.square(said - targets).mean())
    assert numbers.scores["rmse"] == pytest.approx(want)


def test_the_mean_of_the_training_targets_reaches_next_to_nothing() -> None:
    task = Regression(load_wine(), make_loss(BY_TASK, has_classes=False))
    mean, linear = task.baselines()
    assert -0.2 < mean.score <= 0
    assert linear.score > 0.3


def test_simple_methods_find_what_they_are_made_for() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((40, 3))
    y = x @ rng.standard_normal((3, 2)) + 5
    np.testing.assert_allclose(least_squares(x, y, x[:7]), y[:7])
    labels = np.arange(40) % 4
    means = 10.0 * np.eye(4)[labels]
    assert np.array_equal(nearest_mean(means, labels, means), labels)


def naive_bigram_bits(
    train: list[int], test: list[int], discounts: list[float]
) -> float:
    """Interpolate by the definition, word by word, for a vocabulary of 3."""
    total = 0.0
    for before, word in itertools.pairwise(test):
        kinds = len(set(train))
        one = max(train.count(word) - discounts[0], 0) / len(train)
        one += discounts[0] * kinds / len(train) / 3
        behind = [b for a, b in itertools.pairwise(train) if a == before]
        two = one
        if behind:
            two = max(behind.count(word) - discounts[1], 0) / len(behind)
            two += discounts[1] * len(set(behind)) / len(behind) * one
        total -= math.log2(two)
    return total / (len(test) - 1)


def test_counted_bits_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("parallel_params.train.tasks.ngrams._DISCOUNTS", (0.6,))
    rng = np.random.default_rng(3)
    train_words, test = rng.integers(0, 3, 60), rng.integers(0, 3, 20)
    _, bigram = ngram_bits(train_words, test, vocabulary=3, order=2)
    want = naive_bigram_bits(train_words.tolist(), test.tolist(), [0.6, 0.6])
    assert bigram == pytest.approx(want)


def test_the_chances_of_all_words_sum_to_one() -> None:
    words = np.array([0, 1, 2, 0, 1, 1, 2, 0, 0, 1, 2, 1] * 3)
    for before in ([0, 1], [2, 2], [1, 0]):
        chances = [
            2.0
            ** -sum(
                # The last word's bits are what is left of the mean over two.
                sign * bits[-1] * num
                for sign, num, bits in (
                    (
                        1,
                        2,
                        ngram_bits(
                            words, np.array([*before, w]), vocabulary=3, order=3
                        ),
                    ),
                    (-1, 1, ngram_bits(words, np.array(before), vocabulary=3, order=3)),
                )
            )
            for w in range(3)
        ]
        assert sum(chances) == pytest.approx(1.0)


def test_data_model_and_loss_may_be_functions_of_the_users_own() -> None:
    words = (
        f"data={SPOTS[:-1]}, options={{num=30}}}}",
        "model={kind='function', function='own_things:net', options={width=4}}",
        "loss={kind='function', function='own_things:loss', options={factor=2.0}}",
    )
    one, two = run("digits", 1, *words), run("digits", 2, *words)
    assert one.weights_hash == two.weights_hash
    assert one.metric == "accuracy"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("model={kind='function', function='nowhere:net'}", "no module 'nowhere'"),
        (
            "model={kind='function', function='own_things:nett'}",
            "no function 'nett'; did you mean \"net\"",
        ),
        ("model={kind='function', function='own_things:no_net'}", "returned int"),
        ("loss={kind='function', function='own_things:los'}", 'did you mean "loss"'),
        (
            "data={name='function', function='own_things:texts', batch=4}",
            "has dtype <U1; expected numbers",
        ),
        ("data={name='wine', batch=8}\nloss={kind='cross_entropy'}", "mean square"),
        (
            "data={name='function', function='own_things:rows', batch=4, context=8, "
            "task='language'}",
            "takes numbers, and the data are words",
        ),
    ],
)
def test_what_a_user_named_wrongly_is_said_on_all_ranks(
    word: str, sentence: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=sentence):
        run("digits", 2, *word.split("\n"))
    assert not Path("runs").exists()


def test_a_function_that_returns_too_little_is_refused() -> None:
    data = f"data={SPOTS[:-1]}, options={{is_bad=true}}}}"
    with pytest.raises(DataError, match=r"returned .*expected 4 arrays, x, y, test_x"):
        run("digits", 1, data)


def test_a_map_with_nan_is_refused_on_all_ranks_by_what_one_has_seen() -> None:
    x = np.zeros((16, 2))
    x[13] = np.inf
    np.save("x.npy", x)
    np.save("y.npy", np.arange(16) % 2)
    files = "x='x.npy', y='y.npy', test_x='x.npy', test_y='y.npy'"
    with pytest.raises(DataError, match="not finite in sample 13"):
        run("digits", 2, f"data={{name='npy', {files}, batch=8}}")


def test_an_error_of_one_ranks_reader_reaches_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raises(*_: object) -> str:
        raise OSError("cut meanwhile")

    monkeypatch.setattr("parallel_params.train.data.samples.Samples.problem", raises)
    with pytest.raises((RankFailed, OSError), match="cut meanwhile"):
        run("wine", 2)


def test_a_batch_in_parts_makes_a_step_of_the_same_samples() -> None:
    words = ("train.steps=1", "train.eval_every=1", "optim={name='sgd', lr=0.1}")
    whole = run("wine", 1, *words[1:], words[0])
    parts = run("wine", 1, *words[1:], words[0], "train.accumulate=2")
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert parts.test_score == pytest.approx(whole.test_score, rel=1e-4)


@pytest.mark.parametrize("level", [1, 3])
def test_a_batch_in_parts_has_the_same_bits_on_any_world(level: int) -> None:
    words = ("train.accumulate=2", "parallel.grains=2", f"parallel.level={level}")
    assert run("wine", 1, *words).weights_hash == run("wine", 2, *words).weights_hash


def test_a_batch_larger_than_all_samples_is_refused() -> None:
    with pytest.raises(DataError, match="142 samples to learn from are too few for"):
        run("wine", 2, "data.batch=144")


def test_outputs_that_would_be_broadcast_over_targets_are_refused() -> None:
    targets = Tensor(np.ones((4, 1), np.float32))
    with pytest.raises(ValueError, match=r"shape \(4,\) and the targets have \(4, 1\)"):
        mean_square(Tensor(np.ones(4, np.float32)), targets)
    assert float(mean_square(targets, targets)) == 0.0


def test_parts_that_do_not_fit_the_batch_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"16 samples cannot be cut into 3 equal parts"
    ):
        run("wine", 1, "train.accumulate=3")
    with pytest.raises(
        ConfigError, match=r"4 samples cannot be cut into 8 equal grains"
    ):
        run("wine", 1, "train.accumulate=4", "parallel.grains=8")


def test_patience_ends_a_run_after_looks_without_a_better_score() -> None:
    # The optimizer stands still, so the first look stays the best.
    still = ("optim={name='sgd', lr=1e-30}", "train.patience=2", "train.steps=40")
    result = run("wine", 2, *still)
    assert (result.best_step, result.num_steps) == (2, 6)


def test_a_model_is_in_training_from_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []
    before = nn.SequentialCell.construct

    def construct(self: nn.SequentialCell, x: object) -> object:
        seen.append(self.training)
        return before(self, x)

    monkeypatch.setattr(nn.SequentialCell, "construct", construct)
    run("wine", 1, "train.steps=2")
    assert seen[0]
    assert not all(seen)
