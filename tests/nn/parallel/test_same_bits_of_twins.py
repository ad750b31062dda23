"""Cells that are cut where no sum is have the bits of their twins on one rank."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from parallel_params import nn
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.nn import parallel
from parallel_params.nn.parallel import Axis, open_axis
from parallel_params.plan.mesh import Mesh
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tensor import Tensor

Array = NDArray[np.float32]
SAMPLES, POSITIONS, WIDTH, WORDS = 3, 8, 5, 16
RANKS = (2, 4, 8)


def embed(axis: Axis) -> tuple[Array, Array]:
    """Return rows for words, and the gradient of the ranks' parts of the table."""
    set_seed(2)
    table = parallel.VocabParallelEmbedding(WORDS, WIDTH, axis=axis)
    ids = np.random.default_rng(0).integers(0, WORDS, (SAMPLES, POSITIONS))
    rows = table(Tensor(ids))
    weights = np.random.default_rng(1).standard_normal(rows.shape, np.float32)
    (rows * Tensor(weights)).sum().backward()
    gradient = table.embedding_table.grad
    assert gradient is not None
    return rows.asnumpy(), parallel.leave_cut(gradient, axis, 0).asnumpy()


def run_cut(
    axis: Axis, make: Callable[[Axis], Callable[[Tensor], Tensor]]
) -> tuple[Array, Array]:
    """Return what a cell makes of a cut sequence, and the gradient of that, whole."""
    set_seed(2)
    cell = make(axis)
    values = np.random.default_rng(3).standard_normal((2, SAMPLES, POSITIONS, WIDTH))
    whole, weights = (Tensor(each.astype(np.float32)) for each in values)
    x = Tensor(parallel.enter_cut(whole, axis, 1).asnumpy()).requires_grad_()
    out = cell(x)
    (out * parallel.enter_cut(weights, axis, 1)).sum().backward()
    assert x.grad is not None
    both = (parallel.leave_cut(part, axis, 1).asnumpy() for part in (out, x.grad))
    return next(both), next(both)


def norm(axis: Axis) -> Callable[[Tensor], Tensor]:
    return parallel.SequenceParallelNorm(nn.LayerNorm(WIDTH), axis=axis)


def rms(axis: Axis) -> Callable[[Tensor], Tensor]:
    return parallel.SequenceParallelNorm(nn.RMSNorm(WIDTH), axis=axis)


def dropout(axis: Axis) -> Callable[[Tensor], Tensor]:
    cell = parallel.SequenceParallelDropout(0.4, dim=1, axis=axis)
    cell.set_train()
    return cell


CELLS: dict[str, Callable[[Axis], tuple[Array, Array]]] = {
    "embedding": embed,
    "layer norm": lambda axis: run_cut(axis, norm),
    "rms norm": lambda axis: run_cut(axis, rms),
    "dropout": lambda axis: run_cut(axis, dropout),
}


@pytest.mark.parametrize("num_ranks", RANKS)
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_cuts_no_sum_has_the_bits_of_its_twin(
    name: str, num_ranks: int
) -> None:
    def body(comm: Communicator) -> tuple[Array, Array]:
        return CELLS[name](open_axis(comm, Mesh(model=comm.size)))

    (wanted,) = run_threads(1, body)
    for found in run_threads(num_ranks, body):
        assert all(map(np.array_equal, found, wanted))
    assert np.abs(wanted[0]).max() > 0 < np.abs(wanted[1]).max()
