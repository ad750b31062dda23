"""The test samples through a model, in pieces that are split over the ranks.

Pieces have a fixed size and a rank gets whole ones: a product keeps its shape at any
world size, so what is said of a sample keeps its bits.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params import nn
from parallel_params.comm.protocol import Communicator
from parallel_params.tensor import tape
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.data.dataset import Dataset

PIECE = 64

# From [num, ...] outputs and [num, ...] answers to float64 per sample.
Judge: TypeAlias = Callable[
    [NDArray[np.generic], NDArray[np.generic]], NDArray[np.float64]
]


def judge_all(
    net: nn.Cell,
    dataset: Dataset,
    comm: Communicator,
    judge: Judge,
    *,
    piece: int = PIECE,
) -> NDArray[np.float64]:
    """Judge what a model says of every test sample.

    Args:
        net: with whole weights, the same on all ranks.
        dataset: its test samples.
        comm: all ranks.
        judge: gives [num, ...] numbers for the samples of a piece.
        piece: samples that go through at once.

    Returns:
        The numbers of all samples in their order, flat, the same on all ranks.

    Collective: every rank.
    """
    num = dataset.num_test
    num_pieces = -(-num // piece)
    first, last = (num_pieces * r // comm.size for r in (comm.rank, comm.rank + 1))
    was_training = net.training
    net.set_train(False)
    found = [np.empty(0)]
    with tape.pause():
        for start in range(first * piece, min(last * piece, num), piece):
            x, y = dataset.test_batch(start, min(start + piece, num))
            found.append(judge(net(Tensor(x)).asnumpy(), y).reshape(-1))
    net.set_train(was_training)
    own = np.concatenate(found).astype("<f8")
    everything = b"".join(comm.all_gather_bytes(own.tobytes()))
    return np.frombuffer(everything, "<f8").astype(np.float64)
