"""Points around many centers: samples that are functions of their number.

Nothing is stored but the test samples, so there may be more classes than would fit in
memory; a rank makes what it takes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.random import Stream
from parallel_params.train.config.data import ClustersData
from parallel_params.train.data.dataset import Batch, Interface
from parallel_params.train.data.sampler import Share
from parallel_params.train.tasks.task import Baseline

# Centers that are compared with test samples at a time.
_BLOCK = 4096


class Clusters:
    """Samples of many classes; sample i of those to learn from is of class i % classes.

    Args:
        data: the job's [data] table.

    Attributes:
        test_y: [tests] int64, the classes of the test samples.
    """

    def __init__(self, data: ClustersData) -> None:
        self._data = data
        self._centers = Stream(("clusters", "centers"))
        self._noise = Stream(("clusters", "noise"))
        spread = Stream(("clusters", "tests")).uniform(0, data.tests) * data.classes
        self.test_y = spread.astype(np.int64)
        numbers = self.num_train + np.arange(data.tests)
        self._test_x = self._points(numbers, self.test_y)

    @property
    def num_train(self) -> int:
        """Samples to learn from."""
        return self._data.classes * self._data.per_class

    @property
    def num_test(self) -> int:
        """Samples to test on."""
        return self._data.tests

    @property
    def train_y(self) -> NDArray[np.int64]:
        """[num_train] the classes of the samples to learn from."""
        return np.arange(self.num_train) % self._data.classes

    @property
    def interface(self) -> Interface:
        """What a model of these samples looks like from outside."""
        return Interface(
            sample_shape=(self._data.features,), num_outputs=self._data.classes
        )

    @property
    def digest(self) -> str:
        """Checksum of the settings, which decide all, and of the test samples."""
        total = hashlib.sha256(json.dumps(asdict(self._data)).encode())
        total.update(self._test_x.data)
        return total.hexdigest()[:16]

    @property
    def facts(self) -> Mapping[str, object]:
        """What a run's record says about the data."""
        return {"clusters": self._data.classes, "noise": self._data.noise}

    def problem(self, share: Share) -> str:
        """Nothing can be wrong with what is made here."""
        return ""

    def train_batch(self, picked: NDArray[np.int64], *, start: int, seed: int) -> Batch:
        """Make training samples: [num, features] float32 and [num] int32."""
        labels = picked % self._data.classes
        return self._points(picked, labels), labels.astype(np.int32)

    def test_batch(self, first: int, last: int) -> Batch:
        """Give the test samples [first, last)."""
        return self._test_x[first:last], self.test_y[first:last].astype(np.int32)

    def nearest_center(self) -> Baseline:
        """Say how many test samples are nearest to the center of their own class.

        No method is better on average: the centers are what made them.
        """
        width, best = self._data.features, np.full(self.num_test, np.inf)
        chosen = np.zeros(self.num_test, np.int64)
        for first in range(0, self._data.classes, _BLOCK):
            last = min(first + _BLOCK, self._data.classes)
            centers = self._centers.normal(first * width, last * width)
            centers = centers.reshape(-1, width).astype(np.float32)
            far = (centers * centers).sum(1) - 2.0 * (self._test_x @ centers.T)
            nearest = far.argmin(1)
            distance = far[np.arange(len(far)), nearest]
            is_better = distance < best
            best[is_better], chosen[is_better] = (
                distance[is_better],
                first + nearest[is_better],
            )
        score = float(np.mean(chosen == self.test_y))
        return Baseline(name="nearest true center", score=score)

    def _points(
        self, numbers: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return [num, features] the samples of these numbers and classes."""
        noise = _rows(self._noise, numbers.tolist(), self._data.features)
        centers = _rows(self._centers, labels.tolist(), self._data.features)
        return (centers + self._data.noise * noise).astype(np.float32)


def _rows(stream: Stream, rows: Sequence[int], width: int) -> NDArray[np.float64]:
    """Return these rows of an endless table of normal numbers."""
    found = [stream.normal(row * width, (row + 1) * width) for row in rows]
    return np.array(found).reshape(-1, width)
