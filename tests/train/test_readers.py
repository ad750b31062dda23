"""Readers of files: what is there comes out, what is wrong is named by its place."""

import gzip
import importlib.util
import platform
from pathlib import Path

import numpy as np
import pytest

from parallel_params.errors import DataError
from parallel_params.train.data.sampler import WHOLE
from parallel_params.train.data.samples import Samples
from parallel_params.train.data.tables import load_csv
from parallel_params.train.data.texts import (
    hold_out,
    load_text,
    load_tokens,
    load_topics,
)
from parallel_params.train.data.wine import PACKAGED, load_wine
from parallel_params.train.data.words import Words

TABLE = "a,b,kind\n" + "".join(f"{i},{i * i},{i % 3}\n" for i in range(20))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(text: str, *, target: str = "kind", name: str = "t.csv") -> Samples:
    if name.endswith(".gz"):
        Path(name).write_bytes(gzip.compress(text.encode()))
    else:
        Path(name).write_text(text, encoding="utf-8")
    return load_csv(name, target=target)


def refused(text: str, *, target: str = "kind") -> str:
    with pytest.raises(DataError) as caught:
        table(text, target=target)
    return str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_table_becomes_samples_and_classes(name: str) -> None:
    samples = table(TABLE, name=name)
    assert (samples.num_train, samples.num_test, samples.shape) == (16, 4, (2,))
    assert samples.num_classes == 3
    np.testing.assert_allclose(samples.train_x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(samples.train_x.std(axis=0), 1, rtol=1e-5)


def test_a_table_without_names_calls_columns_by_number() -> None:
    samples = table(TABLE.partition("\n")[2], target="2")
    assert (samples.num_train, samples.num_classes) == (16, 3)


def test_a_target_of_a_regression_is_standardised_and_keeps_its_unit() -> None:
    Path("t.csv").write_text(TABLE, encoding="utf-8")
    samples = load_csv("t.csv", target="b", is_regression=True)
    raw = load_csv("t.csv", target="b", is_regression=True, standardize=False)
    assert samples.train_y.shape == (16, 1)
    assert samples.spread == pytest.approx(raw.train_y.std(), rel=1e-6)
    assert raw.spread == 1.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "t.csv: empty"),
        ("\n\n", "t.csv: empty"),
        ("a,kind\n", "names of columns and no row below"),
        ("a,kind\n1,0\n2,x\n", "row 3, column 'kind': 'x' is no number"),
        ("a,kind\n1,0\n\n,1\n", "row 3, column 'a': '' is no number"),
        ("a,kind\n1,0\nnan,1\n", "row 3, column 'a': 'nan' is not finite"),
        ("a,kind\n1,0\n2,1,5\n", "row 3 has 3 cells; expected 2"),
        ("a,a\n1,0\n", "two columns are called 'a'"),
        ("a,kidn\n1,0\n", "no column 'kind'; did you mean \"kidn\"? There are a, kidn"),
        ("kind\n1\n0\n1\n0\n1\n0\n", "there is no feature"),
        ("a,kind\n1,0\n", "1 rows, of which a share of 0.2 leaves 0"),
        ("a,kind\n" + "1,0.5\n" * 9, "has 0.5, which is no class"),
        ("a,kind\n" + "1,-1\n" * 9, "label -1; they start at 0"),
        ("a,kind\n" + "1,1e30\n" * 9, "has 1e+30, which is no class"),
        ("a,kind\n" + "1,5000000\n" * 9, "label 5000000; a model would need"),
    ],
)
def test_a_table_that_is_none_is_refused_by_row_and_column(
    text: str, sentence: str
) -> None:
    assert sentence in refused(text)


def test_cells_may_be_quoted() -> None:
    assert np.array_equal(
        table(TABLE.replace("19,", '"19",')).train_x, table(TABLE).train_x
    )


def test_numbers_beyond_float32_are_not_finite() -> None:
    Path("t.csv").write_text("a,b\n" + "1e60,1\n2,0\n" * 9, encoding="utf-8")
    with pytest.raises(DataError, match="x has values that are not finite in float32"):
        load_csv("t.csv", target="b", standardize=False)


def test_a_damaged_gzip_and_foreign_bytes_are_refused() -> None:
    Path("t.csv.gz").write_bytes(gzip.compress(TABLE.encode())[:-9])
    with pytest.raises(DataError, match="damaged"):
        load_csv("t.csv.gz", target="kind")
    Path("t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text in UTF-8"):
        load_csv("t.csv", target="kind")
    with pytest.raises(DataError, match="no such data file"):
        load_csv("other.csv", target="kind")


def test_a_test_table_has_the_columns_of_the_first() -> None:
    Path("t.csv").write_text(TABLE, encoding="utf-8")
    Path("u.csv").write_text("a,kind\n1,0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"u\.csv: its columns are a, kind; expected"):
        load_csv("t.csv", target="kind", test_path="u.csv")
    samples = load_csv("t.csv", target="kind", test_path="t.csv")
    assert (samples.num_train, samples.num_test) == (20, 20)


def test_wine_is_the_shipped_table_and_none_of_its_classes() -> None:
    samples = load_wine()
    assert (samples.num_train, samples.num_test, samples.shape) == (142, 36, (12,))
    assert samples.train_y.shape == (142, 1)


def test_wine_is_that_of_scikit_learn() -> None:
    # The file alone is read: importing scikit-learn takes seconds.
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-learn, whose file is the original, is not installed")
    source = Path(spec.origin).parent / "datasets" / "data" / "wine_data.csv"
    theirs = source.read_text("utf-8").split()[1:]
    assert PACKAGED.read_text("utf-8").split()[1:] == theirs


def write_tokens(numbers: list[int]) -> None:
    np.array(numbers, dtype="<u2").tofile("t.bin")


def tokens(**other: int) -> Words:
    settings = {"vocabulary": 50, "context": 4, **other}
    return load_tokens(
        "t.bin", dtype="uint16", test_path=None, test_share=0.2, **settings
    )


def test_tokens_are_mapped_and_windows_are_followed_by_the_next_word() -> None:
    write_tokens(list(range(50)))
    words = tokens()
    assert isinstance(words.train, np.memmap)
    assert (words.num_train, words.num_test) == (9, 2)
    x, y = words.train_batch(np.arange(3), start=5, seed=1)
    assert (str(x.dtype), x.shape) == ("int32", (3, 4))
    assert (y == x + 1).all()
    assert (words.test_batch(0, 2)[0].ravel() == np.arange(40, 48)).all()


def test_windows_start_elsewhere_in_every_epoch_and_cover_the_words() -> None:
    write_tokens(list(range(50)))
    words = tokens()
    starts = {
        int(words.train_batch(np.array([0]), start=9 * epoch, seed=1)[0][0, 0])
        for epoch in range(30)
    }
    assert starts == {0, 1, 2, 3}
    # The last window of an epoch stays inside, wherever it starts.
    for epoch in range(30):
        _, y = words.train_batch(np.array([8]), start=9 * epoch, seed=1)
        assert y.max() < 40


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_windows_of_a_batch_do_not_depend_on_who_takes_them(count: int) -> None:
    write_tokens(list(range(50)))
    words, picked = tokens(), np.array([3, 1, 4, 1, 5, 0])
    whole, _ = words.train_batch(picked, start=6, seed=2)
    length = 6 // count
    parts = [
        words.train_batch(picked[i : i + length], start=6 + i, seed=2)[0]
        for i in range(0, 6, length)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_words_that_are_not_in_the_vocabulary_are_named() -> None:
    write_tokens(list(range(50)))
    problem = tokens(vocabulary=49).problem(WHOLE)
    assert "test word 9 is 49; expected 0 to 48 (data.vocabulary)" in problem
    assert tokens().problem(WHOLE) == ""


def test_token_files_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="no such data file"):
        tokens()
    for content in (b"", b"123"):
        Path("t.bin").write_bytes(content)
        with pytest.raises(DataError, match="are no tokens of 2 bytes each"):
            tokens()
    write_tokens(list(range(9)))
    with pytest.raises(DataError, match=r"need 8 or more|need 5 or more"):
        tokens()


def test_a_text_is_its_characters_and_its_end_is_held_out() -> None:
    Path("t.txt").write_text("abcd" * 25, encoding="utf-8")
    words = load_text("t.txt", context=4, test_path=None, test_share=0.1)
    assert (words.vocabulary, len(words.train), len(words.test)) == (4, 90, 10)
    assert words.spell(words.train[:5].tolist()) == "abcda"


def test_texts_that_are_none_are_refused() -> None:
    Path("t.txt").write_bytes(b"")
    for content, said in ((b"", "empty"), (b"\xff", "UTF-8"), (b"abc", "need 8")):
        Path("t.txt").write_bytes(content)
        with pytest.raises(DataError, match=said):
            load_text("t.txt", context=4, test_path=None, test_share=0.5)


def test_the_language_reference_is_that_of_the_running_python() -> None:
    words = load_topics(context=128)
    assert words.facts["python"] == platform.python_version()
    assert len(str(words.facts["sha256"])) == 64
    assert len(words.train) > 5 * len(words.test) > 5 * 10_000
    assert "Python" in words.spell(words.train.tolist())


def test_no_paragraph_is_both_learned_from_and_tested_on() -> None:
    topics = {
        f"topic{number}": "\n\n".join(f"paragraph {n} of some" for n in range(40, 90))
        + f"\n\n paragraph  {number}\nof some"
        + "".join(f"\n\nparagraph {number}.{n}" for n in range(60))
        for number in range(30, 40)
    }
    train, test = (part.split("\n\n") for part in hold_out(topics))
    both = [" ".join(paragraph.split()) for paragraph in train + test]
    assert len(set(both)) == len(both) == 50 + 10 + 600
    assert len(test) == 60
