"""What a model makes of the test samples, split over the ranks.

The samples go through in fixed pieces, whole pieces per rank: a product keeps its shape
at any world size, so predictions keep their bits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parallel_params import nn
from parallel_params.comm.protocol import Communicator
from parallel_params.tensor import tape
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.data.samples import Samples

PIECE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The classes a model chose for the test samples, the same on all ranks.

    Attributes:
        chosen: [num_test] classes.
        labels: [num_test] what they are.
    """

    chosen: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def num_right(self) -> int:
        """Samples whose class was found, counted exactly."""
        return int(np.count_nonzero(self.chosen == self.labels))

    @property
    def accuracy(self) -> float:
        """Share of the samples whose class was found."""
        return self.num_right / len(self.labels)


def evaluate(net: nn.Cell, samples: Samples, comm: Communicator) -> Verdict:
    """Let the model choose a class for every test sample.

    Collective: every rank, with the same weights.
    """
    num_pieces = -(-len(samples.test_y) // PIECE)
    first, last = (num_pieces * r // comm.size for r in (comm.rank, comm.rank + 1))
    mine = samples.test_x[first * PIECE : last * PIECE]
    net.set_train(False)
    with tape.pause():
        scores = [
            net(Tensor(mine[start : start + PIECE])).asnumpy().argmax(axis=1)
            for start in range(0, len(mine), PIECE)
        ]
    net.set_train(True)
    own = np.concatenate([np.empty(0, np.int64), *scores]).astype("<i8")
    chosen = b"".join(comm.all_gather_bytes(own.tobytes()))
    return Verdict(np.frombuffer(chosen, "<i8").astype(np.int64), samples.test_y)
