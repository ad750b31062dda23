"""Helpers of ranked tests: bodies over a communicator that judge together."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import RankFailed

T = TypeVar("T")

# Odd numbers find what powers of two hide.
THREAD_SIZES = (1, 2, 3, 5)
# Far above what a body needs: a collective that takes this long is a defect.
THREAD_TIMEOUT_S = 30.0


class OnRanks(Protocol):
    """Runs a body on every rank of every world that the test is meant for."""

    def __call__(self, body: Callable[[Communicator], object]) -> None: ...


def on_threads(body: Callable[[Communicator], object]) -> None:
    """Run `body` on 1, 2, 3 and 5 threads."""
    for size in THREAD_SIZES:
        run_threads(size, body, timeout_s=THREAD_TIMEOUT_S)


def assert_on_all_ranks(comm: Communicator, ok: bool, message: str = "") -> None:
    """Fail on every rank if `ok` is false on any; call it once per body.

    A bare `assert` around communication would leave the other ranks waiting.
    """
    error = None if ok else AssertionError(message or "the verdict was negative")
    try:
        agree_ok(comm, error)
    except RankFailed as failure:
        raise AssertionError(str(failure)) from error
