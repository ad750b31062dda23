"""Data files: the shipped digits are scikit-learn's; anything foreign is refused."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from parallel_params.errors import DataError
from parallel_params.train.data import digits
from parallel_params.train.data.arrays import load_npz

Array: TypeAlias = NDArray[np.generic]


def test_digits_are_split_by_writers_and_scaled_to_one() -> None:
    samples = digits.load_digits()
    assert samples.train_x.shape == (1437, 64)
    assert samples.test_x.shape == (360, 64)
    assert samples.train_y.shape + samples.test_y.shape == (1437, 360)
    assert samples.train_x.dtype == np.float32
    assert (samples.train_x.min(), samples.train_x.max()) == (0.0, 1.0)
    assert samples.num_classes == 10


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    # The file alone is read: importing scikit-learn takes seconds.
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-learn, whose file is the original, is not installed")
    source = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    pixels, labels = digits.read_csv(source)
    again = tmp_path / "digits.npz"
    digits.write_npz(again, pixels, labels)
    assert digits.load_digits(again).digest == digits.load_digits().digest


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        digits.load_digits(path)
    return str(caught.value)


def test_missing_digits_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "digits.npz") == (
        f"{tmp_path}/digits.npz: there is no such data file"
    )


def test_a_folder_is_no_data_file(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 2000, 44000])
def test_a_digits_file_that_was_cut_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "digits.npz"
    path.write_bytes(digits.PACKAGED.read_bytes()[:keep])
    assert str(path) in refusal(path)


def test_a_digits_file_with_one_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    content = bytearray(digits.PACKAGED.read_bytes())
    content[20000] ^= 1
    path.write_bytes(content)
    assert "damaged" in refusal(path)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, pixels=np.array([{}], dtype=object), labels=np.zeros(1797, np.uint8))
    assert "never unpickled" in refusal(path)
    path.write_bytes(b"no archive at all")
    assert "never unpickled" in refusal(path)


def test_other_arrays_are_refused_by_name_and_shape(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    pixels, labels = np.zeros((1797, 8, 8), np.uint8), np.zeros(1797, np.uint8)
    np.savez(path, images=pixels)
    assert "no array 'pixels'; expected pixels, labels, found images" in refusal(path)
    np.savez(path, pixels=pixels[:, :, :7], labels=labels)
    assert "expected 1797 x 8 x 8" in refusal(path)
    np.savez(path, pixels=pixels.astype(np.float32), labels=labels)
    assert "pixels has dtype float32" in refusal(path)
    np.savez(path, pixels=pixels, labels=labels)
    assert "not the digits this package was made with" in refusal(path)


def test_a_bare_array_is_no_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(3))
    assert "one bare array" in refusal(path)


def write_samples(path: Path, **other: Array) -> None:
    arrays: dict[str, Array] = {
        "x": np.arange(12.0).reshape(6, 2),
        "y": np.array([0, 1, 2, 0, 1, 2]),
        "test_x": np.ones((3, 2), np.uint8),
        "test_y": np.array([0, 2, 1], np.uint8),
        **other,
    }
    np.savez(path, allow_pickle=False, **arrays)


def test_an_npz_file_is_read_as_float32_samples_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    write_samples(path)
    samples = load_npz(path)
    assert (samples.shape, samples.num_classes) == ((2,), 3)
    assert [str(array.dtype) for array in samples.arrays] == ["float32", "int64"] * 2


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("x", np.zeros((5, 2)), "x has 5 samples, y 6 labels"),
        ("x", np.where(np.eye(6, 2, -3), np.nan, 1.0), "the first at x[3, 0]; leave"),
        ("x", np.zeros((6, 2), complex), "x has dtype complex128; expected numbers"),
        ("y", np.zeros(6), "y has dtype float64; expected whole numbers"),
        ("y", np.array([-1, 0, 1, 2, 0, 1]), "y has the label -1; they start at 0"),
        ("test_y", np.array([0, 3, 1]), "test_y has the label 3; those of y end at 2"),
        ("test_y", np.zeros((3, 1), int), "test_y has shape (3, 1); expected any"),
        (
            "test_x",
            np.zeros((3, 4)),
            "x have shape (2,), those of test_x (4,)",
        ),
        ("test_x", np.zeros(()), "test_x has no samples"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, array: Array, sentence: str
) -> None:
    path = tmp_path / "mine.npz"
    write_samples(path, **{name: array})
    with pytest.raises(DataError) as caught:
        load_npz(path)
    assert sentence in str(caught.value)


def test_a_digest_tells_other_samples_apart() -> None:
    samples = digits.load_digits()
    other = dataclasses.replace(samples, train_y=samples.train_y[::-1])
    assert samples.digest == digits.load_digits().digest != other.digest
