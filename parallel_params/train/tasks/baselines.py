"""Simple methods to measure a model against, in a few lines of NumPy."""

import numpy as np
from numpy.typing import NDArray

from parallel_params.train.data.samples import Samples

_MOST_FEATURES = 1000
_MOST_ELEMENTS = 2**23


def is_small(samples: Samples) -> bool:
    """Tell whether there is room for simple methods: in memory, seconds at most."""
    x = samples.train_x
    num_features = x.size // max(len(x), 1)
    return (
        not isinstance(x, np.memmap)
        and num_features <= _MOST_FEATURES
        and x.size <= _MOST_ELEMENTS
    )


def least_squares(
    x: NDArray[np.float64], y: NDArray[np.float64], test_x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit a linear map with an offset, and apply it.

    Args:
        x: [num, features].
        y: [num, outputs].
        test_x: [num_test, features].

    Returns:
        [num_test, outputs].
    """

    def extended(part: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([part, np.ones((len(part), 1))], axis=1)

    solution = np.linalg.lstsq(extended(x), y, rcond=None)[0]
    said: NDArray[np.float64] = extended(test_x) @ solution
    return said


def nearest_mean(
    x: NDArray[np.float64], labels: NDArray[np.int64], test_x: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Choose for each test sample the class whose mean it is nearest to.

    Args:
        x: [num, features].
        labels: [num].
        test_x: [num_test, features].

    Returns:
        [num_test] classes.
    """
    classes = np.unique(labels)
    means = np.stack([x[labels == each].mean(axis=0) for each in classes])
    distances = np.square(means).sum(axis=1) - 2.0 * (test_x @ means.T)
    nearest: NDArray[np.int64] = classes[distances.argmin(axis=1)]
    return nearest
