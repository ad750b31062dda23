"""A classifier whose classes are cut along an axis that cuts the batch as well.

Every rank has some classes and some samples: features are gathered, each rank compares
all of them with its own classes, and three numbers a sample make a softmax of it. The
weights and the logits of millions of classes never are in one place.

Source: Deng et al., ArcFace (2019), section 2.2, for the parallel softmax; An et al.,
Partial FC (2021), section 3.2, for sampled classes.
"""

import numpy as np

from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.cell import AxisCell
from parallel_params.nn.parallel.passing import enter_cut, join, scaled
from parallel_params.nn.parallel.vocabulary import check_range, cross_entropy_at
from parallel_params.tensor import random
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.ops.indexing import gather
from parallel_params.tensor.ops.matmul import linear
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


class ShardedClassifier(AxisCell):
    """The last layer and its loss, for many classes: features @ weight.T, softmax.

    Args:
        in_channels: width of a feature.
        num_classes: of all ranks together.
        weight_init: law of the whole weight, [num_classes, in_channels].
        dtype: of the weight.
        axis: along which the classes are cut; it cuts the batch too.
        num_sampled: of this rank's classes, how many to compare with in training: those
            that are labels, and others at random; None for all.

    Raises:
        TypeError: `axis` is no Axis.
        ValueError: `num_sampled` is not between 1 and this rank's classes.
        PlanError: the axis does not divide the classes, or does not fit its mesh.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        weight_init: Init = "normal",
        dtype: DType = float32,
        *,
        axis: Axis,
        num_sampled: int | None = None,
    ) -> None:
        super().__init__(axis, sees_same_samples=False)
        self.in_channels, self.num_classes = in_channels, num_classes
        self.weight = self.cut_parameter(
            weight_init,
            (num_classes, in_channels),
            dtype,
            name="weight",
            what="num_classes",
        )
        num_own = self.weight.shape[0]
        if num_sampled is not None and not 1 <= num_sampled <= num_own:
            raise ValueError(
                f"num_sampled lies between 1 and the {num_own} classes of a rank, not "
                f"at {num_sampled}"
            )
        self.num_sampled = num_sampled

    def construct(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of every own sample, [samples].

        Args:
            features: [samples, in_channels], equally many on every rank of the axis.
            labels: [samples] of an integer type.

        Raises:
            ValueError: a label is out of range.

        Collective: the ranks along the axis.
        """
        axis = self.axis
        own_labels = labels.asnumpy()
        check_range(own_labels, self.num_classes, "ShardedClassifier: label")
        every = axis.all_gather(own_labels.astype(np.int64), 0, "labels")
        # A share's loss is a mean over its own samples, but these weights see the
        # samples of all shares: their gradient is that many times too large.
        weight = scaled(self.weight, 1.0 / axis.size)
        columns = every - axis.index * self.weight.shape[0]
        if self.training and self.num_sampled is not None:
            chosen = self._sample(columns, self.num_sampled)
            weight = gather(weight, Tensor.wrap(chosen), 0)
            columns = _places(columns, chosen)
        logits = linear(join(features, axis, 0), weight)
        return enter_cut(cross_entropy_at(logits, columns, axis), axis, 0)

    def predict(self, features: Tensor) -> Tensor:
        """Return the class of the largest logit of every own sample, [samples] int64.

        Collective: the ranks along the axis.
        """
        axis = self.axis
        every = axis.all_gather(features.asnumpy(), 0, "features")
        logits = every @ self.weight.asnumpy().T
        best = logits.argmax(1)
        top = axis.all_gather(logits.max(1)[np.newaxis], 0, "predict, logits")
        label = best.astype(np.int64) + axis.index * self.weight.shape[0]
        labels = axis.all_gather(label[np.newaxis], 0, "predict, classes")
        winner = labels[top.argmax(0), np.arange(len(every))]
        return Tensor.wrap(winner[axis.part_of(len(every), "samples")])

    def extend_repr(self) -> str:
        """Return the settings."""
        return (
            f"in_channels={self.in_channels}, num_classes={self.num_classes}, "
            f"axis={self.axis.name} of {self.axis.size}"
        )

    def _sample(self, columns: Array, num_sampled: int) -> Array:
        """Return own classes, ascending: all that are labels, and others at random."""
        num_own = self.weight.shape[0]
        is_own = (columns >= 0) & (columns < num_own)
        wanted = np.zeros(num_own)
        wanted[columns[is_own]] = -1.0  # in front of every random number
        stream = random.next_stream().derive("classes", self.axis.index)
        order = np.argsort(wanted + stream.uniform(0, num_own), kind="stable")
        num_labels = int(np.count_nonzero(wanted))
        return np.sort(order[: max(num_sampled, num_labels)])


def _places(columns: Array, chosen: Array) -> Array:
    """Return where among the chosen ones each column is; -1 if it is not."""
    place = np.minimum(np.searchsorted(chosen, columns), len(chosen) - 1)
    found: Array = np.where(chosen[place] == columns, place, -1)
    return found
