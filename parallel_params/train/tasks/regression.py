"""Which number, or numbers, belong to a sample."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parallel_params import nn
from parallel_params.comm.protocol import Communicator
from parallel_params.train import exhibits
from parallel_params.train.data.samples import Samples
from parallel_params.train.losses import LossFunction
from parallel_params.train.tasks.baselines import is_small, least_squares
from parallel_params.train.tasks.pieces import judge_all
from parallel_params.train.tasks.task import Baseline, Exhibit, Metric


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What a model said of the test samples.

    Attributes:
        said: [num_test, num_targets] in float64.
        targets: [num_test, num_targets] what they are.
        spread: what both were divided by.
    """

    said: NDArray[np.float64]
    targets: NDArray[np.float64]
    spread: float = 1.0

    @property
    def scores(self) -> Mapping[str, float]:
        """R2, and the root of the mean square error in the targets' own unit."""
        return {"r2": r2_score(self.said, self.targets), "rmse": self._error}

    @property
    def sample(self) -> str:
        """Nothing."""
        return ""

    @property
    def summary(self) -> str:
        """The error in the targets' own unit."""
        return f"root mean square error {self._error:.3g}"

    @property
    def _error(self) -> float:
        squares = np.square(self.said - self.targets).ravel().tolist()
        return self.spread * math.sqrt(math.fsum(squares) / max(len(squares), 1))

    def exhibits(self) -> Sequence[Exhibit]:
        """Draw what was said over what is."""
        title, html = exhibits.scatter(self.said[:, 0], self.targets[:, 0])
        return [Exhibit(title=title, html=html)]


def r2_score(said: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Compute 1 - squares left / squares about the mean, averaged over the targets.

    0 is what the mean of the test targets would reach; targets that are all the same
    count as 0.

    Args:
        said: [num, num_targets].
        targets: [num, num_targets].
    """
    scores = []
    for column in range(targets.shape[1]):
        wanted = targets[:, column]
        mean = math.fsum(wanted.tolist()) / len(wanted)
        left = math.fsum(np.square(said[:, column] - wanted).tolist())
        total = math.fsum(np.square(wanted - mean).tolist())
        scores.append(1.0 - left / total if total else 0.0)
    return math.fsum(scores) / len(scores)


class Regression:
    """Asks for numbers.

    Args:
        samples: with targets.
        loss: from outputs and targets to the mean loss.
    """

    metric = Metric(
        name="r2", is_more_better=True, meaning="share of the variance explained"
    )

    def __init__(self, samples: Samples, loss: LossFunction) -> None:
        self._samples = samples
        self.loss = loss

    def words_for(self, loss: float) -> dict[str, float]:
        """Leave a loss what it is."""
        return {}

    def evaluate(self, net: nn.Cell, comm: Communicator, *, step: int) -> Numbers:
        """Let the model say numbers of every test sample.

        Collective: every rank, with the same weights.
        """

        def take(
            said: NDArray[np.generic], _: NDArray[np.generic]
        ) -> NDArray[np.float64]:
            return said.astype(np.float64)

        said = judge_all(net, self._samples, comm, take)
        return self._judged(said.reshape(self._samples.test_y.shape))

    def baselines(self) -> Sequence[Baseline]:
        """Try the mean of the training targets, and least squares."""
        samples = self._samples
        y = samples.train_y.astype(np.float64)
        mean = np.broadcast_to(y.mean(axis=0), samples.test_y.shape)
        said = {"mean": np.asarray(mean)}
        if is_small(samples):
            x, test_x = (
                part.reshape(len(part), -1).astype(np.float64)
                for part in (samples.train_x, samples.test_x)
            )
            said["least squares"] = least_squares(x, y, test_x)
        return [
            Baseline(name=name, score=self._judged(each).scores["r2"])
            for name, each in said.items()
        ]

    def _judged(self, said: NDArray[np.float64]) -> Numbers:
        targets = self._samples.test_y.astype(np.float64)
        return Numbers(said, targets, self._samples.spread)
