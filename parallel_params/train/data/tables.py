"""Tables of numbers from `.csv` and `.csv.gz` files: features, and one target column.

A whole table is in memory on every rank: text has no places to jump to. What is no
number is named by row and column, as an editor counts them.
"""

import csv
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError
from parallel_params.train.config.words import did_you_mean
from parallel_params.train.data.arrays import make_samples
from parallel_params.train.data.samples import Samples
from parallel_params.train.data.split import split_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Numbers in rows and named columns.

    Attributes:
        columns: the names; "0", "1" and so on if the file has none.
        values: [num_rows, num_columns].
        source: the file.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float64]
    source: str

    def column(self, name: str) -> int:
        """Find a column.

        Raises:
            DataError: there is none of that name; a near one is named.
        """
        if name in self.columns:
            return self.columns.index(name)
        raise DataError(
            f"{self.source}: there is no column {name!r}"
            f"{did_you_mean(name, self.columns) or '.'} There are "
            f"{', '.join(self.columns)}"
        )


def load_csv(
    path: str,
    *,
    target: str,
    test_path: str | None = None,
    test_share: float = 0.2,
    is_regression: bool = False,
    standardize: bool = True,
) -> Samples:
    """Read a table and hold out a part of it, or read what is held out from another.

    Args:
        path: a .csv or .csv.gz file.
        target: name of the column to be said; all others are features.
        test_path: a table of the same columns to test on.
        test_share: without one, this share of the rows, evenly spread, is held out.
        is_regression: whether the target is a number and no class.
        standardize: take off each feature's mean over the training rows and divide by
            its deviation; of a target as well.

    Raises:
        DataError: missing, damaged, empty, no table of numbers, or too few rows.
    """
    table = read_table(Path(path))
    position = table.column(target)
    if test_path is None:
        train, test = split_rows(table.values, test_share, table.source)
    else:
        other = read_table(Path(test_path))
        if other.columns != table.columns:
            raise DataError(
                f"{test_path}: its columns are {', '.join(other.columns)}; expected "
                f"those of {path}, {', '.join(table.columns)}"
            )
        train, test = table.values, other.values
    features = np.delete(train, position, axis=1), np.delete(test, position, axis=1)
    answers = train[:, position], test[:, position]
    if not features[0].shape[1]:
        raise DataError(f"{path}: the only column is the target; there is no feature")
    spread = 1.0
    if standardize:
        features = standardized(*features)[:2]
    if standardize and is_regression:
        *answers, spread = standardized(*answers)  # type: ignore[assignment]  # two
    if not is_regression:
        answers = tuple(_labels(each, table.source, target) for each in answers)  # type: ignore[assignment]  # two
    samples = make_samples(
        table.source, features[0], answers[0], features[1], answers[1],
        is_regression=is_regression,
    )  # fmt: skip
    facts = {"file": Path(path).name, "target": target, "standardized": standardize}
    return replace(samples, spread=spread, facts=facts)


def standardized(
    train: NDArray[np.float64], test: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Take off the mean over the training rows and divide by the deviation over them.

    A column that never changes becomes zeros.

    Returns:
        Both parts, and the deviation of the last column.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    # What rounding leaves of a constant is no deviation.
    is_flat = deviation <= 1e-12 * np.maximum(np.abs(mean), 1.0)
    scale = np.where(is_flat, 1.0, deviation)
    parts = [np.where(is_flat, 0.0, (part - mean) / scale) for part in (train, test)]
    return parts[0], parts[1], float(np.atleast_1d(scale)[-1])


def read_table(path: Path) -> Table:
    """Read a .csv or .csv.gz file of numbers.

    The first line names the columns, unless it has nothing but numbers.

    Raises:
        DataError: missing, damaged, empty, or no table of finite numbers.
    """
    lines = [line for line in _text(path).splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path}: empty; expected rows of numbers")
    first = next(csv.reader(lines[:1]))
    has_names = not all(_is_number(cell) for cell in first)
    columns = tuple(cell.strip() for cell in first)
    if not has_names:
        columns = tuple(str(index) for index in range(len(first)))
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{path}: two columns are called {twice!r}")
    rows = lines[1:] if has_names else lines
    if not rows:
        raise DataError(f"{path}: names of columns and no row below them")
    try:
        values = np.loadtxt(rows, delimiter=",", ndmin=2, comments=None, quotechar='"')
    except ValueError:
        values = np.full((1, len(columns)), np.nan)
    if values.shape[1] != len(columns) or not np.isfinite(values).all():
        raise DataError(f"{path}: {_first_wrong(rows, columns, 1 + has_names)}")
    return Table(columns=columns, values=values, source=str(path))


def _text(path: Path) -> str:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig") as file:
                return file.read()
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such data file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; expected a .csv file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged, or cannot be read: {error}") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_wrong(rows: Sequence[str], columns: Sequence[str], start: int) -> str:
    """Say which cell is no number; rows are counted as the lines that are not empty."""
    for number, cells in enumerate(csv.reader(rows), start=start):
        if len(cells) != len(columns):
            return f"row {number} has {len(cells)} cells; expected {len(columns)}"
        for name, cell in zip(columns, cells, strict=True):
            if not _is_number(cell):
                return f"row {number}, column {name!r}: {cell!r} is no number"
            if not np.isfinite(float(cell)):
                return f"row {number}, column {name!r}: {cell!r} is not finite"
    return "no table of numbers with commas between them"


def _labels(values: NDArray[np.float64], source: str, target: str) -> NDArray[np.int64]:
    with np.errstate(invalid="ignore"):  # what does not fit is unequal, and refused
        labels = values.astype(np.int64)
    if (wrong := np.flatnonzero(labels != values)).size:
        raise DataError(
            f"{source}: column {target!r} has {values[wrong[0]]:g}, which is no class; "
            'for a regression say data.task = "regression"'
        )
    return labels
