"""Checks and views of buffers, made before any rank is told about a collective.

A buffer that MPI cannot take corrupts memory or hangs a world, so both kinds of world
look here first. Whether the *ranks* agree is not checked here.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from parallel_params.comm.protocol import Buffer, Rank
from parallel_params.errors import CommunicationError

_UNITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def check_send(buffer: Buffer, *, what: str) -> None:
    """Check that `buffer` is one C-contiguous block of memory without Python objects.

    Raises:
        CommunicationError: it is not.
    """
    if not isinstance(buffer, np.ndarray):
        raise CommunicationError(
            f"{what}: expected a NumPy array, found {type(buffer).__name__}; "
            f"pass np.asarray(...) of it."
        )
    if buffer.dtype.hasobject:
        raise CommunicationError(
            f"{what}: dtype {buffer.dtype} holds Python objects, which have no bytes "
            f"to send; convert it to a numeric dtype."
        )
    if not buffer.flags.c_contiguous:
        raise CommunicationError(
            f"{what}: expected a C-contiguous buffer, found shape {buffer.shape} with "
            f"strides {buffer.strides} bytes; pass np.ascontiguousarray(...) of it."
        )


def check_receive(buffer: Buffer, *, what: str) -> None:
    """Check that `buffer` can be sent and written.

    Raises:
        CommunicationError: it cannot.
    """
    check_send(buffer, what=what)
    if not buffer.flags.writeable:
        raise CommunicationError(
            f"{what}: the buffer of shape {buffer.shape} is read-only and would be "
            f"overwritten; pass a writeable copy."
        )


def check_parts(
    buffer: Buffer, counts: Sequence[int], *, num_ranks: int, what: str
) -> None:
    """Check that `counts` has one count per rank and that they fill the 1-D `buffer`.

    Raises:
        CommunicationError: it has not, or they do not.
    """
    if len(counts) != num_ranks:
        raise CommunicationError(
            f"{what}: expected one count per rank ({num_ranks}), found {len(counts)}."
        )
    if any(count < 0 for count in counts):
        raise CommunicationError(f"{what}: a count is negative: {list(counts)}.")
    total = sum(counts)
    if buffer.shape != (total,):
        raise CommunicationError(
            f"{what}: the counts ask for a 1-D buffer of {total} elements, found shape "
            f"{buffer.shape}."
        )


def check_exchange(
    send: Buffer,
    send_counts: Sequence[int],
    recv: Buffer,
    recv_counts: Sequence[int],
    *,
    num_ranks: int,
    what: str,
) -> None:
    """Check both buffers of an `all_to_all` and their counts.

    Raises:
        CommunicationError: they cannot be sent, received, or do not fit the counts.
    """
    check_send(send, what=what)
    check_receive(recv, what=what)
    check_same_dtype(send, recv, what=what)
    check_parts(send, send_counts, num_ranks=num_ranks, what=f"{what} (send)")
    check_parts(recv, recv_counts, num_ranks=num_ranks, what=f"{what} (receive)")


def check_same_dtype(buffer: Buffer, other: Buffer, *, what: str) -> None:
    """Check that what is received has the dtype of what is sent.

    Raises:
        CommunicationError: it has not.
    """
    if buffer.dtype != other.dtype:
        raise CommunicationError(
            f"{what}: sends {buffer.dtype} and receives into {other.dtype}; "
            f"both must be the same."
        )


def check_reducible(buffer: Buffer, *, what: str) -> None:
    """Check that MPI can add elements of the buffer's dtype.

    Raises:
        CommunicationError: it cannot.
    """
    dtype = buffer.dtype
    is_integer = dtype.kind in "iu"
    if not (is_integer or dtype in (np.float32, np.float64)) or not dtype.isnative:
        raise CommunicationError(
            f"{what}: ranks can add float32, float64 and integers, found {dtype}; send "
            f"16-bit floats by all_to_all and add them in float32."
        )


def check_untouched(buffer: Buffer, sent: NDArray[np.uint8], *, what: str) -> None:
    """Check that nobody has written into a buffer while it was under way.

    Args:
        buffer: what is sent.
        sent: its bytes when it was started.
        what: the collective.

    Raises:
        CommunicationError: it has changed; MPI would have sent either.
    """
    if not np.array_equal(as_bytes(buffer), sent):
        raise CommunicationError(
            f"{what}: what this rank sends was written while it was under way; wait "
            f"for the message first."
        )


def check_root(root: Rank, *, num_ranks: int, what: str) -> None:
    """Check that `root` is a rank.

    Raises:
        CommunicationError: it is not.
    """
    if not 0 <= root < num_ranks:
        raise CommunicationError(
            f"{what}: root {root} is not a rank of a world of {num_ranks}."
        )


def check_num_bytes(num_bytes: int, *, what: str) -> None:
    """Check that memory of this size can be asked for.

    Raises:
        CommunicationError: the number is negative.
    """
    if num_bytes < 0:
        raise CommunicationError(f"{what}: num_bytes is {num_bytes}; expected >= 0.")


def check_open(is_closed: bool) -> None:
    """Check that shared memory is still there.

    Raises:
        CommunicationError: it was closed.
    """
    if is_closed:
        raise CommunicationError("this shared memory is closed.")


def check_group(ranks: Sequence[Rank], *, rank: Rank, num_ranks: int) -> None:
    """Check that `ranks` are different ranks and that `rank` is one of them.

    Raises:
        CommunicationError: they are not.
    """
    if len(set(ranks)) != len(ranks) or not all(0 <= r < num_ranks for r in ranks):
        raise CommunicationError(
            f"group: expected different ranks of 0..{num_ranks - 1}, found "
            f"{list(ranks)}."
        )
    if rank not in ranks:
        raise CommunicationError(
            f"group: rank {rank} asks for a group of ranks {list(ranks)}, of which it "
            f"is no member; only members call group()."
        )


def as_bytes(buffer: Buffer) -> NDArray[np.uint8]:
    """View a contiguous buffer as its bytes, whatever its dtype and shape."""
    if prod(buffer.shape) == 0:
        return np.empty(0, np.uint8)
    return buffer.reshape(-1).view(np.uint8)


def offsets_of(counts: Sequence[int]) -> list[int]:
    """Return where each part starts, and last their sum: `len(counts) + 1` numbers."""
    offsets = [0]
    for count in counts:
        offsets.append(offsets[-1] + count)
    return offsets


def as_units(buffer: Buffer) -> tuple[Buffer, int]:
    """View a buffer as unsigned integers of its item size: what MPI moves, not adds.

    Returns:
        The view, and how many of its elements make one of the buffer's.
    """
    unit = _UNITS.get(buffer.itemsize)
    if unit is not None:
        return buffer.view(unit), 1
    return as_bytes(buffer), buffer.itemsize


def dense(
    units: Buffer, sizes: Sequence[int], parts: Sequence[int]
) -> tuple[Buffer, list[int]]:
    """Return the buffer without its large segments, and where the others start."""
    starts = offsets_of(parts)
    if starts[-1] == units.size:
        return units, starts
    places = offsets_of(sizes)
    pieces = [units[places[r] : places[r] + part] for r, part in enumerate(parts)]
    return np.concatenate(pieces), starts
