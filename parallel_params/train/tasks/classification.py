"""Which class a sample is of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parallel_params import nn
from parallel_params.comm.protocol import Communicator
from parallel_params.train import exhibits
from parallel_params.train.data.clusters import Clusters
from parallel_params.train.data.samples import Samples
from parallel_params.train.losses import LossFunction
from parallel_params.train.models.judged import LossCell
from parallel_params.train.tasks.baselines import (
    is_small,
    least_squares,
    nearest_mean,
)
from parallel_params.train.tasks.pieces import judge_all
from parallel_params.train.tasks.task import Baseline, Exhibit, Metric

# More are told by nothing simple in seconds.
_MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """The classes a model chose for the test samples.

    Attributes:
        chosen: [num_test] classes.
        labels: [num_test] what they are.
        pictures: [num_test, height, width] from 0 to 1, None if they are no pictures.
    """

    chosen: NDArray[np.int64]
    labels: NDArray[np.int64]
    pictures: NDArray[np.float32] | None = None

    @property
    def num_right(self) -> int:
        """Samples whose class was found, counted exactly."""
        return int(np.count_nonzero(self.chosen == self.labels))

    @property
    def scores(self) -> Mapping[str, float]:
        """Share of the samples whose class was found."""
        return {"accuracy": self.num_right / len(self.labels)}

    @property
    def sample(self) -> str:
        """Nothing."""
        return ""

    @property
    def summary(self) -> str:
        """How many of how many are right."""
        return f"{self.num_right} of {len(self.labels)}"

    def exhibits(self) -> Sequence[Exhibit]:
        """Draw which class was taken for which, and the pictures that were mistaken."""
        shown = [exhibits.confusion(self.chosen, self.labels)]
        if self.pictures is not None:
            shown.append(exhibits.mistakes(self.pictures, self.chosen, self.labels))
        return [Exhibit(title=title, html=html) for title, html in shown if html]


class Classification:
    """Asks for classes.

    Args:
        samples: with labels.
        loss: from scores and labels to the mean loss.
    """

    metric = Metric(
        name="accuracy", is_more_better=True, meaning="share of classes found"
    )

    def __init__(self, samples: Samples | Clusters, loss: LossFunction) -> None:
        self._samples = samples
        self.loss = loss

    def words_for(self, loss: float) -> dict[str, float]:
        """Leave a loss what it is."""
        return {}

    def evaluate(self, net: nn.Cell, comm: Communicator, *, step: int) -> Classes:
        """Let the model choose a class for every test sample.

        Collective: every rank, with the same weights.
        """
        samples = self._samples

        call = net.choose if isinstance(net, LossCell) else None
        judge = _largest if call is None else _as_told
        chosen = judge_all(net, samples, comm, judge, call=call).astype(np.int64)
        pictures = None
        if isinstance(samples, Samples) and samples.picture is not None:
            pictures = samples.test_x.reshape(-1, *samples.picture).astype(np.float32)
        return Classes(chosen, samples.test_y.astype(np.int64), pictures)

    def baselines(self) -> Sequence[Baseline]:
        """Try the commonest class, the nearest mean of a class, and least squares."""
        samples = self._samples
        labels = samples.train_y.astype(np.int64)
        counts = np.bincount(labels)
        found = [Baseline(name="commonest class", score=self._right(counts.argmax()))]
        if isinstance(samples, Clusters):
            return [*found, samples.nearest_center()]
        if not is_small(samples) or len(counts) > _MOST_CLASSES:
            return found
        x, test_x = (
            part.reshape(len(part), -1).astype(np.float64)
            for part in (samples.train_x, samples.test_x)
        )
        nearest = nearest_mean(x, labels, test_x)
        found.append(Baseline(name="nearest mean", score=self._right(nearest)))
        scores = least_squares(x, np.eye(len(counts))[labels], test_x)
        linear = self._right(scores.argmax(axis=1))
        return [*found, Baseline(name="least squares", score=linear)]

    def _right(self, chosen: "NDArray[np.int64] | np.int64") -> float:
        return float(np.mean(self._samples.test_y.astype(np.int64) == chosen))


def _largest(
    scores: NDArray[np.generic], _: NDArray[np.generic]
) -> NDArray[np.float64]:
    return np.asarray(np.argmax(scores, axis=1), np.float64)


def _as_told(
    chosen: NDArray[np.generic], _: NDArray[np.generic]
) -> NDArray[np.float64]:
    return np.asarray(chosen, np.float64)
