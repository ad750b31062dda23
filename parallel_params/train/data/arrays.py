"""Arrays of `.npz` and `.npy` files as samples, checked where they enter.

Nothing is ever unpickled. An `.npz` is read whole; an `.npy` is mapped, so that a rank
reads the samples it takes and no others.
"""

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError
from parallel_params.train.data.npy import map_npy
from parallel_params.train.data.samples import Samples, as_float32

# A slip in a label shall not become a model of a billion outputs.
_MOST_CLASSES = 2**20
_ARRAYS = ("x", "y", "test_x", "test_y")


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


def load_npz(path: str | Path, *, is_regression: bool = False) -> Samples:
    """Read x, y, test_x and test_y from an .npz file.

    Args:
        path: holds x, test_x: [num_samples, *shape] numbers; y, test_y: [num_samples]
            whole numbers from 0, or [num_samples] or [num_samples, num_targets]
            numbers for a regression.
        is_regression: whether y are targets and no labels.

    Raises:
        DataError: missing, foreign or damaged; or arrays that do not fit each other.
    """
    path = Path(path)
    expected = dict.fromkeys(_ARRAYS, ArrayKind(kinds="fiu"))
    arrays = read_npz(path, expected)
    return make_samples(
        str(path), *(arrays[name] for name in _ARRAYS), is_regression=is_regression
    )


def load_npy(
    x: str, y: str, *, test_x: str, test_y: str, is_regression: bool
) -> Samples:
    """Map the samples of two .npy files, and read labels or targets of two others.

    Args:
        x: file of [num_samples, *shape] numbers to learn from, which are not copied.
        y: file of [num_samples] labels or [num_samples, ...] targets.
        test_x: as x, to test on.
        test_y: as y.
        is_regression: whether y are targets and no labels.

    Raises:
        DataError: missing, foreign or damaged; or arrays that do not fit each other.
    """
    maps = [map_npy(Path(name)) for name in (x, test_x)]
    answers = [np.array(map_npy(Path(name))) for name in (y, test_y)]
    return make_samples(
        x, maps[0], answers[0], maps[1], answers[1], is_regression=is_regression
    )


def make_samples(
    source: str,
    x: NDArray[np.generic],
    y: NDArray[np.generic],
    test_x: NDArray[np.generic],
    test_y: NDArray[np.generic],
    *,
    is_regression: bool,
    picture: tuple[int, int] | None = None,
) -> Samples:
    """Check four arrays against each other and make samples of them.

    Arrays in memory are converted; maps stay what they are, and their values are looked
    at by `Samples.problem`.

    Raises:
        DataError: they do not fit each other, or are no numbers a model can learn from.
    """
    pairs = (("", x, y), ("test_", test_x, test_y))
    for prefix, samples, answers in pairs:
        _check_pair(source, prefix, samples, answers, is_regression=is_regression)
    if x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"{source}: samples of x have shape {x.shape[1:]}, those of test_x "
            f"{test_x.shape[1:]}; expected the same"
        )
    told = [_answers(each, is_regression) for each in (y, test_y)]
    made = Samples(
        _floats(x), told[0], _floats(test_x), told[1], picture, source=source
    )
    if is_regression:
        if told[0].shape[1:] != told[1].shape[1:]:
            raise DataError(
                f"{source}: y has {told[0].shape[1]} targets per sample, test_y "
                f"{told[1].shape[1]}; expected the same"
            )
        return made
    if (highest := int(told[1].max())) >= made.num_classes:
        raise DataError(
            f"{source}: test_y has the label {highest}; those of y end at "
            f"{made.num_classes - 1}"
        )
    return made


def _floats(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array if isinstance(array, np.memmap) else as_float32(array)


def _answers(y: NDArray[np.generic], is_regression: bool) -> NDArray[np.generic]:
    if not is_regression:
        return y.astype(np.int64)
    return as_float32(y).reshape(len(y), -1)


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
    source: str,
    prefix: str,
    x: NDArray[np.generic],
    y: NDArray[np.generic],
    *,
    is_regression: bool,
) -> None:
    what = "targets" if is_regression else "labels"
    found_x, found_y = (len(array) if array.ndim else "no" for array in (x, y))
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        raise DataError(
            f"{source}: {prefix}x has {found_x} samples, {prefix}y {found_y} {what}; "
            "expected equally many and at least one"
        )
    for name, array in ((f"{prefix}x", x), (f"{prefix}y", y)):
        if array.dtype.kind not in "fiu":
            raise DataError(
                f"{source}: {name} has dtype {array.dtype}; expected numbers"
            )
        is_read = not isinstance(array, np.memmap)
        if is_read and not (is_finite := np.isfinite(as_float32(array))).all():
            place = np.unravel_index(int(is_finite.argmin()), array.shape)
            where = ", ".join(map(str, place))
            raise DataError(
                f"{source}: {name} has values that are not finite in float32, the "
                f"first at {name}[{where}]; leave such samples out"
            )
    if not is_regression:
        _check_labels(source, f"{prefix}y", y)


def _check_labels(source: str, name: str, y: NDArray[np.generic]) -> None:
    if y.dtype.kind not in "iu":
        raise DataError(
            f"{source}: {name} has dtype {y.dtype}; expected whole numbers "
            '(for a regression say data.task = "regression")'
        )
    if y.ndim != 1:
        raise DataError(f"{source}: {name} has shape {y.shape}; expected any")
    if (lowest := int(y.astype(np.int64).min())) < 0:
        raise DataError(f"{source}: {name} has the label {lowest}; they start at 0")
    if (highest := int(y.astype(np.int64).max())) >= _MOST_CLASSES:
        raise DataError(
            f"{source}: {name} has the label {highest}; a model would need an output "
            f"for each below it, and {_MOST_CLASSES} are the most"
        )
