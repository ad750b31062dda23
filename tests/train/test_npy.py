"""Samples in `.npy` files: mapped, looked at by share, and refused as what they are."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from parallel_params.errors import DataError
from parallel_params.train.data.arrays import load_npy
from parallel_params.train.data.npy import map_npy
from parallel_params.train.data.sampler import WHOLE, Share
from parallel_params.train.data.samples import Samples


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_arrays(x: np.ndarray, num: int = 10) -> None:
    np.save("x.npy", x)
    np.save("y.npy", np.arange(num) % 3)


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def mapped() -> Samples:
    return load_npy(
        "x.npy", "y.npy", test_x="x.npy", test_y="y.npy", is_regression=False
    )


def test_an_npy_file_is_mapped_and_not_copied() -> None:
    write_arrays(np.arange(40.0).reshape(10, 4))
    samples = mapped()
    assert isinstance(samples.train_x, np.memmap)
    x, y = samples.train_batch(np.array([7, 2]), start=0, seed=0)
    assert [str(x.dtype), str(y.dtype)] == ["float32", "int32"]
    assert (x[0].tolist(), y.tolist()) == ([28, 29, 30, 31], [1, 2])


def test_numbers_beyond_float32_are_not_finite() -> None:
    write_arrays(np.full((10, 2), 1e60))
    assert "not finite in sample 0" in mapped().problem(WHOLE)


def test_a_rank_looks_for_nan_in_its_share_of_a_map_alone() -> None:
    x = np.zeros((10, 4))
    x[7, 1] = np.nan
    write_arrays(x)
    samples = mapped()
    assert samples.problem(Share(index=0, count=2)) == ""
    assert "x has a value that is not finite in sample 7" in samples.problem(
        Share(index=1, count=2)
    )


def test_samples_and_labels_are_equally_many() -> None:
    write_arrays(np.zeros((10, 4)), num=9)
    with pytest.raises(DataError, match="x has 10 samples, y 9 labels"):
        mapped()


ZEROS = npy_bytes(np.zeros((10, 4)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"1,2\n", "begins with b'1,2\\n'; expected an .npy file"),
        (pickle.dumps([1, 2]), "begins with b'\\x80"),
        (b"PK\3\4", "an .npz file; expected an .npy file"),
        (ZEROS[:40], "damaged .npy file: EOF"),
        (ZEROS[:12] + b"xxx" + ZEROS[15:], "damaged .npy file: Header"),
        (ZEROS[:6] + b"\3" + ZEROS[7:], "format (3, 0); expected (1, 0) or (2, 0)"),
        (
            ZEROS[:-8],
            "float64 (10, 4) takes 320 bytes behind the header, there are 312",
        ),
        (npy_bytes(np.array([{}])), "dtype object, Python objects, which are never"),
        (npy_bytes(np.zeros(3, "f4,O")), "Python objects, which are never unpickled"),
        (npy_bytes(np.array(["a"])), "the array has dtype <U1; expected numbers"),
    ],
)
def test_a_file_that_is_no_npy_of_numbers_is_refused_as_what_it_is(
    content: bytes, sentence: str
) -> None:
    Path("x.npy").write_bytes(content)
    with pytest.raises(DataError) as caught:
        map_npy(Path("x.npy"))
    text = str(caught.value)
    assert text.startswith("x.npy: ")
    assert sentence in text
    assert text.endswith("write numbers with numpy.save(path, array)")
    assert "allow_pickle" not in text  # NumPy's advice, which nothing here follows
