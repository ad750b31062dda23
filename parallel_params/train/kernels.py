"""Which loops compute: they may change bits, so a job says it and a run records it."""

from collections.abc import Iterator
from contextlib import contextmanager

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.protocol import Communicator
from parallel_params.tensor.kernel_set import (
    Choice,
    KernelSet,
    kernel_set,
    missing_compiler,
    set_kernels,
)
from parallel_params.train.environment import host_names


@contextmanager
def kernels(choice: Choice, comm: Communicator) -> Iterator[KernelSet]:
    """Compute with a set of kernels in this block, on all ranks with the same.

    "auto" is "fast" if every rank has the compiler, else "numpy". One rank of each host
    compiles what is not in the cache, the others then find it there.

    Args:
        choice: "numpy", "fast" or "auto".
        comm: ranks that may be threads of one process and share one choice.

    Raises:
        KernelsUnavailable: "fast", and no rank has the compiler.
        RankFailed: "fast", and some rank has not; all raise, and it is named.

    Collective: every rank, with the same choice.
    """
    before = kernel_set().name
    missing = missing_compiler()
    answers = comm.all_gather_bytes(b"" if missing else b"1")
    if choice == "auto":
        choice = "fast" if all(answers) else "numpy"
    elif choice == "fast":
        agree_ok(comm, missing)
    is_first = comm.rank in first_ranks_of_hosts(comm)
    for is_turn in (is_first, not is_first):
        error: Exception | None = None
        if is_turn:
            try:
                set_kernels(choice)
            except Exception as raised:  # a compiler that is there and does not work
                error = raised
        agree_ok(comm, error)
    try:
        yield kernel_set()
        comm.barrier()
    finally:
        set_kernels(before)


def first_ranks_of_hosts(comm: Communicator) -> set[int]:
    """Return the lowest rank of every host.

    Collective: every rank.
    """
    hosts = host_names(comm)
    return {hosts.index(host) for host in hosts}


def describe_kernels(chosen: KernelSet) -> str:
    """Say in a few words which set it is, and what its loops cost."""
    if chosen.name == "numpy":
        return "NumPy's own kernels"
    made = f"{chosen.num_compiled} compiled, " if chosen.num_compiled else ""
    note = (
        f"; every process compiles, because nothing can be kept ({chosen.not_kept}): "
        "set NUMBA_CACHE_DIR to a folder with room"
        if chosen.not_kept
        else ""
    )
    return (
        f"fast kernels ({chosen.compiler}: {made}{chosen.num_cached} from cache, "
        f"{chosen.seconds:.1f} s{note})"
    )
