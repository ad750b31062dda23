"""The main job's data: 1797 handwritten digits of 8x8 pixels, inside the package.

Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository (1998), CC BY 4.0; the part that scikit-learn ships, in its order.
The last 360 are by other writers than most of the first 1437, so they are what a run is
tested on.

`digits.npz` was made from scikit-learn's file, and can be made again, by

    python -m parallel_params.train.data.digits digits.csv.gz digits.npz

where `digits.csv.gz` is `datasets/data/digits.csv.gz` of an installed scikit-learn.
"""

import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError
from parallel_params.train.data.arrays import ArrayKind, read_npz
from parallel_params.train.data.samples import Samples

NUM_TRAIN = 1437
NUM_TEST = 360
PACKAGED = Path(__file__).with_name("digits.npz")

_NUM = NUM_TRAIN + NUM_TEST
SHAPE = (8, 8)

_PIXEL_MAX = 16
_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
_EXPECTED = {
    "pixels": ArrayKind(kinds="u", shape=(_NUM, *SHAPE)),
    "labels": ArrayKind(kinds="u", shape=(_NUM,)),
}


def load_digits(path: str | Path = PACKAGED) -> Samples:
    """Read the digits: the first 1437 to learn from, the last 360 to test on.

    Returns:
        Samples of [64] pixels from 0 to 1, labels 0 to 9.

    Raises:
        DataError: missing, foreign or damaged. Remedy: install the package again.
    """
    path = Path(path)
    arrays = read_npz(path, _EXPECTED)
    pixels, labels = arrays["pixels"], arrays["labels"]
    found = _checksum(pixels, labels)
    if found != _SHA256:
        raise DataError(
            f"{path}: not the digits this package was made with (sha256 {found[:16]}, "
            f"expected {_SHA256[:16]}); install the package again"
        )
    x = pixels.reshape(_NUM, 64).astype(np.float32) / np.float32(_PIXEL_MAX)
    y = labels.astype(np.int64)
    halves = x[:NUM_TRAIN], y[:NUM_TRAIN], x[NUM_TRAIN:], y[NUM_TRAIN:]
    return Samples(*halves, picture=SHAPE, source="digits")


def read_csv(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read scikit-learn's file: 64 pixels and a label per line.

    Returns:
        pixels [1797, 8, 8] from 0 to 16, labels [1797].
    """
    with gzip.open(path, "rt", encoding="ascii") as lines:
        rows = np.loadtxt(lines, delimiter=",").astype(np.uint8)
    return rows[:, :64].reshape(-1, 8, 8), rows[:, 64]


def write_npz(path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Write the two arrays, compressed, under a fixed date."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("pixels", pixels), ("labels", labels)):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(entry, buffer.getvalue(), compresslevel=9)


def _checksum(pixels: NDArray[np.generic], labels: NDArray[np.generic]) -> str:
    return hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()


def _main(source: str, target: str) -> None:
    pixels, labels = read_csv(Path(source))
    write_npz(Path(target), pixels, labels)
    sys.stdout.write(f"{target}: sha256 {_checksum(pixels, labels)}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
