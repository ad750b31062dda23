"""How many threads BLAS may use: it changes the bits of a product, so a job says it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from threadpoolctl import ThreadpoolController

from parallel_params.comm.protocol import Communicator


class _Pool(Protocol):
    num_threads: int

    def set_num_threads(self, num_threads: int) -> None: ...


@contextmanager
def blas_threads(num_threads: int, comm: Communicator) -> Iterator[None]:
    """Give BLAS `num_threads` threads in this block; 0 leaves its own choice.

    Ranks may be threads of one process and share one BLAS: all of them note the number
    before the first changes it, and none changes it back before all are done.

    Collective: every rank.
    """
    if num_threads == 0:
        yield
        return
    pools = ThreadpoolController().select(user_api="blas").lib_controllers
    before = [pool.num_threads for pool in pools]
    comm.barrier()
    for pool in pools:
        _setter(pool)(num_threads)
    try:
        yield
        comm.barrier()
    finally:
        for pool, number in zip(pools, before, strict=True):
            _setter(pool)(number)


def _setter(pool: _Pool) -> Callable[[int], None]:
    """Find the function that sets the number from whichever thread calls it.

    threadpoolctl 3.6 and later ignores, without a word, all threads of a process but
    the first that has set a number, so that threads do not fight. Ours do not fight.
    """
    setter: Callable[[int], None] = getattr(
        pool, "_real_set_num_threads", pool.set_num_threads
    )
    return setter
