"""What ranks tell each other during a save or a load: facts, or what went wrong.

As `comm.agree`, but the error that all ranks raise keeps its class: a caller wants to
know a damaged file from a full disk, whichever rank met it.
"""

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotSaved,
    ParallelParamsError,
    RankFailed,
)

_KINDS: dict[str, type[ParallelParamsError]] = {
    kind.__name__: kind
    for kind in (
        CheckpointDamaged,
        CheckpointError,
        CheckpointMismatch,
        CheckpointNotSaved,
    )
}
_FINE, _WRONG = b"+", b"-"


def exchange(
    comm: Communicator, payload: bytes, error: Exception | None
) -> list[bytes]:
    """Give every rank the payload of each; raise on all if one has an error.

    Args:
        comm: all ranks.
        payload: of this rank; not looked at if it has an error.
        error: what went wrong here, if anything.

    Raises:
        CheckpointError, CheckpointNotSaved: the error of the lowest rank that has one,
            in its own class.
        RankFailed: that error is of another class.
        Exception: the error itself, if it is the same on every rank.

    Collective: all ranks.
    """
    own = _FINE + payload
    if error is not None:
        text = f"{type(error).__name__}\n{error}"
        own = _WRONG + text.encode(errors="backslashreplace")
    answers = comm.all_gather_bytes(own)
    failed = [r for r, answer in enumerate(answers) if answer[:1] == _WRONG]
    if not failed:
        return [answer[1:] for answer in answers]
    if error is not None and len(set(answers)) == 1:
        raise error
    name, _, text = answers[failed[0]][1:].decode().partition("\n")
    where = f"rank {failed[0]} of {comm.size}"
    if name in _KINDS:
        raise _KINDS[name](f"{where}: {text}") from error
    raise RankFailed(f"{where} failed: {name}: {text}", rank=failed[0]) from error
