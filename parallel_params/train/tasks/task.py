"""What a task is: a loss, a metric, a look at a model, and what is easily reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from parallel_params import nn
from parallel_params.comm.protocol import Communicator
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.labels import label_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What runs of a task are compared by.

    Attributes:
        name: as in metrics.jsonl behind `test_`.
        is_more_better: whether a higher value is the better one.
        meaning: in a few words, for people.
    """

    name: str
    is_more_better: bool
    meaning: str

    @property
    def label(self) -> str:
        """The name as people write it: bits/char."""
        return label_of(self.name)

    def is_better(self, value: float, than: float) -> bool:
        """Tell whether one value beats another; a tie does not."""
        return value > than if self.is_more_better else value < than


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a simple method reaches on the same samples, by the task's metric."""

    name: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A part of the report: a title, and what stands below it as HTML."""

    title: str
    html: str


class Evaluation(Protocol):
    """What a model made of the test samples, the same on all ranks."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Numbers by name, the task's metric first."""
        ...

    @property
    def sample(self) -> str:
        """What the model says by itself, to be shown below a row; mostly nothing."""
        ...

    @property
    def summary(self) -> str:
        """What the metric counts, for a tile of the report: 348 of 360."""
        ...

    def exhibits(self) -> Sequence[Exhibit]:
        """Draw what there is to see."""
        ...


class Task(Protocol):
    """What is asked of the model of a job."""

    @property
    def metric(self) -> Metric:
        """What runs are compared by."""
        ...

    def loss(self, outputs: Tensor, answers: Tensor) -> Tensor:
        """Compute the mean loss of a grain, 0-d."""
        ...

    def words_for(self, loss: float) -> dict[str, float]:
        """Say a training loss in other units, by name."""
        ...

    def evaluate(self, net: nn.Cell, comm: Communicator, *, step: int) -> Evaluation:
        """Look what the model makes of the test samples.

        Args:
            net: with whole weights, the same on all ranks.
            comm: all ranks; each looks at a part of the samples.
            step: how many steps were taken.

        Collective: every rank.
        """
        ...

    def baselines(self) -> Sequence[Baseline]:
        """Try simple methods on the same samples; on one rank, in seconds at most."""
        ...
