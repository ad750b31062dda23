"""Labelled samples in memory: four arrays, checked where they enter.

Reads .npz files without ever unpickling. Order and shares are `sampler`'s.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError

_ARRAYS = ("x", "y", "test_x", "test_y")


class Samples(NamedTuple):
    """What to learn from and what to test on.

    Attributes:
        train_x: [num_train, *shape] float32.
        train_y: [num_train] int64 labels from 0.
        test_x: [num_test, *shape] float32.
        test_y: [num_test] int64.
    """

    train_x: NDArray[np.float32]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.train_x.shape[1:]

    @property
    def num_classes(self) -> int:
        """Labels are below this."""
        return int(self.train_y.max()) + 1

    @property
    def digest(self) -> str:
        """Checksum of all four arrays, to agree on across ranks."""
        total = hashlib.sha256()
        for array in self:
            total.update(f"{array.dtype} {array.shape}".encode())
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayKind:
    """What one array of a file must be: its kinds of dtype and its shape.

    Attributes:
        kinds: NumPy's letters, as in "iu" for whole numbers.
        shape: None stands for any length; None altogether for any shape.
    """

    kinds: str
    shape: tuple[int | None, ...] | None = None


def read_npz(
    path: Path, expected: Mapping[str, ArrayKind]
) -> dict[str, NDArray[np.generic]]:
    """Read named arrays from an .npz file, and check kind and shape of each.

    Raises:
        DataError: missing, no .npz, damaged, pickled, or with other arrays.
    """
    try:
        # Opened here: NumPy leaves its own file open when the archive is damaged.
        with path.open("rb") as file:
            arrays = _named_arrays(path, np.load(file, allow_pickle=False), expected)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such data file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; expected an .npz file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path}: damaged, or no .npz file: {error}") from None
    except DataError:
        raise
    except ValueError as error:
        # NumPy takes whatever it does not know for a pickle, and refuses that.
        raise DataError(
            f"{path}: no .npz file of plain numbers; Python objects are never unpickled"
        ) from error
    for name, kind in expected.items():
        _check(path, name, arrays[name], kind)
    return arrays


def load_npz(path: str | Path) -> Samples:
    """Read x, y, test_x and test_y from an .npz file.

    Args:
        path: holds x, test_x: [num_samples, *shape] numbers; y, test_y: [num_samples]
            whole numbers from 0.

    Raises:
        DataError: missing, foreign or damaged; or arrays that do not fit each other.
    """
    path = Path(path)
    numbers, labels = ArrayKind(kinds="fiu"), ArrayKind(kinds="iu", shape=(None,))
    expected = dict(zip(_ARRAYS, (numbers, labels, numbers, labels), strict=True))
    arrays = read_npz(path, expected)
    x, y, test_x, test_y = (arrays[name] for name in _ARRAYS)
    _check_pair(path, "", x, y)
    _check_pair(path, "test_", test_x, test_y)
    if x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"{path}: samples of x have shape {x.shape[1:]}, those of test_x "
            f"{test_x.shape[1:]}; expected the same"
        )
    samples = Samples(
        x.astype(np.float32),
        y.astype(np.int64),
        test_x.astype(np.float32),
        test_y.astype(np.int64),
    )
    if (highest := int(samples.test_y.max())) >= samples.num_classes:
        raise DataError(
            f"{path}: test_y has the label {highest}; those of y end at "
            f"{samples.num_classes - 1}"
        )
    return samples


def _named_arrays(
    path: Path, archive: object, names: Iterable[str]
) -> dict[str, NDArray[np.generic]]:
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path}: one bare array; expected an .npz file")
    with archive:
        for name in names:
            if name not in archive.files:
                found = ", ".join(archive.files) or "none"
                raise DataError(
                    f"{path}: no array {name!r}; expected {', '.join(names)}, "
                    f"found {found}"
                )
        return {name: archive[name] for name in names}


def _check(path: Path, name: str, array: NDArray[np.generic], kind: ArrayKind) -> None:
    if array.dtype.kind not in kind.kinds:
        wanted = "whole numbers" if kind.kinds == "iu" else "numbers"
        raise DataError(f"{path}: {name} has dtype {array.dtype}; expected {wanted}")
    if kind.shape is None:
        return
    fits = len(array.shape) == len(kind.shape) and all(
        want in (None, found)
        for want, found in zip(kind.shape, array.shape, strict=True)
    )
    if not fits:
        wanted = " x ".join("any" if n is None else str(n) for n in kind.shape)
        raise DataError(f"{path}: {name} has shape {array.shape}; expected {wanted}")


def _check_pair(
    path: Path, prefix: str, x: NDArray[np.generic], y: NDArray[np.generic]
) -> None:
    if x.ndim == 0 or len(x) != len(y) or len(x) == 0:
        found = len(x) if x.ndim else "no"
        raise DataError(
            f"{path}: {prefix}x has {found} samples, {prefix}y {len(y)} labels; "
            "expected equally many and at least one"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise DataError(f"{path}: {prefix}x has values that are not finite")
    if (lowest := int(y.astype(np.int64).min())) < 0:
        raise DataError(f"{path}: {prefix}y has the label {lowest}; they start at 0")
