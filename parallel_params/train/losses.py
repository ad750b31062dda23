"""The loss of a job: what its task asks for, or what its [loss] table says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from parallel_params import nn, ops
from parallel_params.errors import ConfigError
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config.loss import FunctionLoss, Loss, SmoothedLoss
from parallel_params.train.functions import find_function
from parallel_params.train.models.gpt import Gpt
from parallel_params.train.models.judged import LossCell

# From outputs and answers to the mean loss over them, 0-d.
LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def make_loss(loss: Loss, *, has_classes: bool) -> LossFunction:
    """Make the loss of a job.

    Args:
        loss: the job's [loss] table.
        has_classes: whether answers are classes or words, and no numbers.

    Raises:
        ConfigError: a loss that does not go with the data, or no such function.
    """
    if isinstance(loss, FunctionLoss):
        return _own(loss)
    if not has_classes:
        if isinstance(loss, SmoothedLoss):
            problem = (
                'loss.kind: "cross_entropy" is for classes and words, and the data '
                "have numbers to be told; leave [loss] out for the mean square"
            )
            raise ConfigError([problem])
        return mean_square
    smoothing = loss.label_smoothing if isinstance(loss, SmoothedLoss) else 0.0
    return CrossEntropy(label_smoothing=smoothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy:
    """The mean cross-entropy of outputs, [..., classes], and answers, [...]."""

    label_smoothing: float = 0.0

    def __call__(self, outputs: Tensor, answers: Tensor) -> Tensor:
        """Compute it, 0-d."""
        rows, labels = outputs.reshape(-1, outputs.shape[-1]), answers.reshape(-1)
        return ops.cross_entropy(rows, labels, label_smoothing=self.label_smoothing)


def loss_of(net: nn.Cell, loss: LossFunction, x: Tensor, answers: Tensor) -> Tensor:
    """Compute the mean loss of a grain, 0-d.

    Models that can do so compute it themselves: they have more than their outputs.

    Collective: the ranks along the axis of a `LossCell`.
    """
    if isinstance(net, LossCell):
        return net.loss(x, answers)
    if isinstance(net, Gpt) and isinstance(loss, CrossEntropy):
        return net.told(net.features(x), answers, loss.label_smoothing)
    return loss(net(x), answers)


def mean_square(outputs: Tensor, answers: Tensor) -> Tensor:
    """Compute the mean square of what is missing, of equal shapes only.

    Raises:
        ValueError: the shapes differ; they would be broadcast to nonsense.
    """
    if outputs.shape != answers.shape:
        raise ValueError(
            f"the model gives shape {outputs.shape} and the targets have "
            f"{answers.shape}; give [samples, targets]"
        )
    return ops.mse_loss(outputs, answers)


def _own(loss: FunctionLoss) -> LossFunction:
    function = find_function(loss.function, "loss.function")

    def own(outputs: Tensor, answers: Tensor) -> Tensor:
        # What it returned is checked by the manager, on all ranks together.
        return function(outputs, answers, **loss.options)  # type: ignore[return-value]  # see above

    return own
