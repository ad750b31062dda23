"""The test samples through a model, in pieces that are split over the ranks.

Pieces have a fixed size and a rank gets whole ones: a product keeps its shape at any
world size, so what is said of a sample keeps its bits. Ranks whose cells are cut along
an axis are in the same pass: on the same piece, or each on one of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params import nn
from parallel_params.comm.protocol import Communicator
from parallel_params.nn.parallel import axes_of
from parallel_params.tensor import tape
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.data.dataset import Dataset
from parallel_params.train.data.sampler import Share

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
    call: Callable[[Tensor], Tensor] | None = None,
) -> NDArray[np.float64]:
    """Judge what a model says of every test sample.

    Args:
        net: with whole weights, the same on all ranks.
        dataset: its test samples.
        comm: all ranks.
        judge: gives [num, ...] numbers for the samples of a piece.
        piece: samples that go through at once.
        call: what is done with samples; by default the net is called.

    Returns:
        The numbers of all samples in their order, flat, the same on all ranks.

    Collective: every rank.
    """
    num = dataset.num_test
    num_pieces = -(-num // piece)
    share, is_teller = _share(net, comm)
    look = call or net
    first, last = (
        num_pieces * r // share.count for r in (share.index, share.index + 1)
    )
    found = [np.empty(0)]
    with looking(net):
        for start in _starts(net, first, last, num_pieces, share.count):
            stop = min((start + 1) * piece, num)
            x, y = dataset.test_batch(start * piece, stop)
            told = judge(look(Tensor(_full(net, x, piece))).asnumpy()[: len(x)], y)
            if first <= start < last and is_teller:
                found.append(told.reshape(-1))
    own = np.concatenate(found).astype("<f8")
    everything = b"".join(comm.all_gather_bytes(own.tobytes()))
    return np.frombuffer(everything, "<f8").astype(np.float64)


@contextmanager
def looking(net: nn.Cell) -> Iterator[None]:
    """Have a net look at samples and learn nothing.

    Collective: the ranks along the axes that its cells are cut along, if there are any.
    """
    was_training = net.training
    net.set_train(False)
    with tape.pause(), ExitStack() as stack:
        for axis in axes_of(net):
            stack.enter_context(axis.guard())
        yield
    net.set_train(was_training)


def _share(net: nn.Cell, comm: Communicator) -> tuple[Share, bool]:
    """Return this rank's share of the pieces, and whether it is the one to tell it."""
    axes = axes_of(net)
    if not axes:
        return Share(index=comm.rank, count=comm.size), True
    mesh = axes[0].mesh
    index = mesh.share_index(comm.rank)
    is_teller = mesh.position(comm.rank, mesh.others(mesh.batch_axes)) == 0
    return Share(index=index, count=mesh.num_shares), is_teller


def _starts(
    net: nn.Cell, first: int, last: int, num_pieces: int, num_shares: int
) -> range:
    """Return the pieces of this rank; where ranks are in one pass, equally many."""
    if not any(axis.cuts_batch for axis in axes_of(net)):
        return range(first, last)
    most = -(-num_pieces // num_shares)
    begin = min(first, num_pieces - most)
    return range(begin, begin + most)


def _full(net: nn.Cell, x: NDArray[np.generic], piece: int) -> NDArray[np.generic]:
    """Return a piece; where ranks are in one pass, filled up to the full length."""
    if len(x) == piece or not any(axis.cuts_batch for axis in axes_of(net)):
        return x
    return np.concatenate([x, np.repeat(x[-1:], piece - len(x), 0)])
