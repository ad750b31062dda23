"""A block that all ranks leave together."""

from collections.abc import Iterator
from contextlib import contextmanager

from parallel_params.checkpoint.exchange import exchange
from parallel_params.comm.protocol import Communicator


@contextmanager
def together(comm: Communicator) -> Iterator[list[bytes]]:
    """Have all ranks leave this block, or all raise what went wrong on one.

    Yields:
        A list for what this rank has to tell; behind the block it holds what each rank
        told.

    Raises:
        CheckpointError, RankFailed: as `exchange`.

    Collective: all ranks.
    """
    told: list[bytes] = []
    error: Exception | None = None
    try:
        yield told
    except Exception as raised:
        error = raised
    told[:] = exchange(comm, b"".join(told), error)
