"""Nets that are cut along an axis of four ranks, of every kind of cell.

Each makes its own loss of [n, 384] samples.
"""

from collections.abc import Callable

import numpy as np

from parallel_params import nn, ops
from parallel_params.nn import parallel
from parallel_params.nn.parallel import Axis
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tensor import Tensor

WORDS, POSITIONS, WIDTH, CLASSES = 64, 8, 64, 1000


def numbers_of(x: Tensor, count: int, below: int) -> Tensor:
    """Make whole numbers of the first values of every sample."""
    values = np.abs(x.asnumpy()[:, :count]) * 1e4
    return Tensor(values.astype(np.int64) % below)


class Gpt(nn.Cell):
    """Words, a block and the scores of the next words, all of it cut."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        set_seed(5)
        self.axis_of_model = axis
        self.table = parallel.VocabParallelEmbedding(WORDS, WIDTH, axis=axis)
        self.block = parallel.ParallelTransformerBlock(WIDTH, 4, axis=axis)
        self.head = parallel.ColumnParallelDense(WIDTH, WORDS, axis=axis)

    def construct(self, x: Tensor) -> Tensor:
        words = numbers_of(x, POSITIONS + 1, WORDS)
        scores = self.head(self.block(self.table(words[:, :-1])))
        losses = parallel.parallel_cross_entropy(
            scores.reshape(-1, scores.shape[-1]),
            words[:, 1:].reshape(-1),
            self.axis_of_model,
        )
        return ops.mean(losses)


class Classes(nn.Cell):
    """A classifier whose classes are cut, behind a layer that is whole."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        set_seed(5)
        self.body = nn.Dense(384, 256, activation="tanh")
        self.head = parallel.ShardedClassifier(256, CLASSES, axis=axis)

    def construct(self, x: Tensor) -> Tensor:
        labels = numbers_of(x, 1, CLASSES)[:, 0]
        return ops.mean(self.head(self.body(x), labels))


class Experts(nn.Cell):
    """Experts, one on each rank, behind a layer that is whole."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        set_seed(5)
        self.body = nn.Dense(384, 256, activation="tanh")
        self.experts = parallel.Experts(256, 4, 64, capacity_factor=4.0, axis=axis)

    def construct(self, x: Tensor) -> Tensor:
        out, _ = self.experts(self.body(x))
        return ops.mean(out**2)


NETS: dict[str, Callable[[Axis], nn.Cell]] = {
    "gpt": Gpt,
    "classes": Classes,
    "experts": Experts,
}
