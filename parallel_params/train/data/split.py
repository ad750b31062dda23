"""Which rows are held out, where a file does not say: every k-th, whoever asks."""

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError


def split_rows(
    rows: NDArray[np.float64], share: float, source: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cut rows into those to learn from and those to test on.

    Rows to test on are spread evenly, so that a sorted table is no trap; no seed has a
    say, so that all runs are tested on the same.

    Args:
        rows: [num_rows, ...].
        share: of the rows to be held out.
        source: whose rows they are.

    Raises:
        DataError: too few rows for both parts.
    """
    num_test = round(len(rows) * share)
    if not 0 < num_test < len(rows):
        raise DataError(
            f"{source}: {len(rows)} rows, of which a share of {share:g} leaves "
            f"{num_test} to test on; give more rows or another data.test_share"
        )
    # The middle of each of num_test equal stretches.
    held = ((np.arange(num_test) + 0.5) * len(rows) / num_test).astype(np.int64)
    is_test = np.zeros(len(rows), dtype=np.bool_)
    is_test[held] = True
    return rows[~is_test], rows[is_test]
