"""How much alcohol is in a wine, from 12 other measures: 178 wines, inside the package.

*Wine*, S. Aeberhard and M. Forina, UCI Machine Learning Repository (1992), CC BY 4.0;
the numbers of `wine.csv` are those of scikit-learn's copy, below names of columns.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from parallel_params.train.data.arrays import make_samples
from parallel_params.train.data.samples import Samples
from parallel_params.train.data.split import split_rows
from parallel_params.train.data.tables import read_table, standardized

PACKAGED = Path(__file__).with_name("wine.csv")

_TARGET = "alcohol"
# Which grape it was made of: no measure.
_LEFT_OUT = "cultivar"
_TEST_SHARE = 0.2


def load_wine() -> Samples:
    """Read the table: 142 wines to learn from, 36 evenly spread ones to test on.

    Returns:
        Samples of 12 measures and 1 target, all standardised on the 142.
    """
    table = read_table(PACKAGED)
    target = table.column(_TARGET)
    train, test = split_rows(table.values, _TEST_SHARE, table.source)
    left_out = [target, table.column(_LEFT_OUT)]
    x, test_x, _ = standardized(
        *(np.delete(p, left_out, axis=1) for p in (train, test))
    )
    y, test_y, spread = standardized(train[:, target], test[:, target])
    samples = make_samples(table.source, x, y, test_x, test_y, is_regression=True)
    return replace(samples, spread=spread, facts={"target": "alcohol, % by volume"})
