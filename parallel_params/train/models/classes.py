"""Dense layers in front of classes that are cut along an axis of the mesh."""

import itertools
import math

from parallel_params import nn
from parallel_params.errors import ConfigError
from parallel_params.nn.parallel import Axis, ShardedClassifier
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config.models import ClassesModel
from parallel_params.train.data.dataset import Interface
from parallel_params.train.models.judged import LossCell
from parallel_params.train.models.mlp import FIRST_WEIGHTS


class ManyClasses(LossCell):
    """Features of a sample, compared with classes of which each rank has a part.

    Args:
        model: the job's [model] table.
        width: numbers of a sample.
        num_classes: of all ranks together.
        axis: along which the classes are cut.
    """

    is_classifier = True

    def __init__(
        self, model: ClassesModel, width: int, num_classes: int, axis: Axis
    ) -> None:
        super().__init__()
        law = FIRST_WEIGHTS[model.activation]
        widths = (width, *model.hidden)
        cells: list[nn.Cell] = [nn.Flatten()]
        for position, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), 1):
            is_last = position == len(model.hidden)
            activation = None if is_last else model.activation
            cells.append(nn.Dense(fan_in, fan_out, law, "zeros", activation=activation))
        self.body = nn.SequentialCell(cells)
        self.head = ShardedClassifier(
            widths[-1], num_classes, axis=axis, num_sampled=model.sampled
        )
        self._scale = model.scale

    def construct(self, x: Tensor) -> Tensor:
        """Return the features, [samples, width of a feature]."""
        features: Tensor = self.body(x)
        return features if self._scale == 1.0 else features * self._scale

    def loss(self, x: Tensor, answers: Tensor) -> Tensor:
        """Compute the mean cross-entropy over the classes of all ranks, 0-d."""
        mean: Tensor = self.head(self.construct(x), answers).mean()
        return mean

    def choose(self, x: Tensor) -> Tensor:
        """Return the class of the largest score, [samples] int64."""
        return self.head.predict(self.construct(x))


def build_classes(model: ClassesModel, interface: Interface, axis: Axis) -> ManyClasses:
    """Build the classifier of a job.

    Raises:
        ConfigError: the samples are words.
        PlanError: the axis does not divide the classes.
        ValueError: more classes are sampled than a rank has.
    """
    if interface.is_text:
        problem = 'model.kind: "classes" takes numbers, and the data are words'
        raise ConfigError([problem])
    width = math.prod(interface.sample_shape)
    return ManyClasses(model, width, interface.num_outputs, axis)


def describe_classes(model: ClassesModel, interface: Interface) -> str:
    """Write it in a word and its widths: classes 64-32-100000."""
    inputs = math.prod(interface.sample_shape)
    widths = (inputs, *model.hidden, interface.num_outputs)
    return f"classes {'-'.join(str(width) for width in widths)}"
