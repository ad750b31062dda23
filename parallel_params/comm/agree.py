"""The same value on all ranks, or the same error on all ranks.

One rank that raises alone leaves the others waiting for ever; these functions are
where a decision becomes everybody's. They send a few bytes and are meant for starts,
verdicts and failures, not for every step.
"""

from collections import Counter
from collections.abc import Sequence

from parallel_params.comm.protocol import Communicator, Rank
from parallel_params.errors import PlanMismatch, RankFailed

_MAX_TEXT = 2000
_MAX_SHOWN = 200


def agree_ok(comm: Communicator, error: BaseException | None) -> None:
    """Raise on every rank if any rank passes an error; return if none does.

    Args:
        comm: whose ranks decide together.
        error: what went wrong on this rank, None if nothing did.

    Raises:
        RankFailed: names the lowest rank with an error and its text; one that only
            learned of it (a `RankFailed`) comes last. On a rank that has an error of
            its own it is raised from that error.
        BaseException: the error itself, if it is the same on every rank: then it is
            everybody's mistake and no rank's failure.

    Collective: every rank.
    """
    text = "" if error is None else f"{type(error).__name__}: {error}"[:_MAX_TEXT]
    payload = text.encode(errors="backslashreplace")
    answers = [answer.decode() for answer in comm.all_gather_bytes(payload)]
    failed = [rank for rank, answer in enumerate(answers) if answer]
    if not failed:
        return
    if error is not None and len(set(answers)) == 1:
        raise error
    # Who raised because another rank gave up has no cause of its own.
    causes = [rank for rank in failed if not answers[rank].startswith("RankFailed:")]
    causes = causes or failed
    first = causes[0]
    others = f" (and ranks {causes[1:]})" if len(causes) > 1 else ""
    raise RankFailed(
        f"rank {first} of {comm.size} failed{others}: {answers[first]}", rank=first
    ) from error


def agree_same(comm: Communicator, value: bytes | str, what: str) -> None:
    """Raise on every rank unless all ranks pass the same value.

    Args:
        comm: whose ranks compare.
        value: what must be the same; a digest if it is long, for all of it is sent.
        what: its name in the error, "the digest of the plan" for instance.

    Raises:
        PlanMismatch: names the ranks that differ from the most common value (from that
            of the lowest rank, if several are equally common) and both values.

    Collective: every rank, with the same `what`.
    """
    payload = value.encode() if isinstance(value, str) else value
    values = comm.all_gather_bytes(payload)
    odd = odd_ranks(values)
    if not odd:
        return
    usual = next(rank for rank in range(comm.size) if rank not in odd)
    raise PlanMismatch(
        f"{what} is not the same on all ranks: ranks {list(odd)} differ from rank "
        f"{usual}: {_shown(values[odd[0]])} on rank {odd[0]}, {_shown(values[usual])} "
        f"on rank {usual}. Give every rank the same."
    )


def odd_ranks(values: Sequence[bytes]) -> tuple[Rank, ...]:
    """Return the ranks whose value is not the most common; ties go to the lowest."""
    counts = Counter(values)  # keeps the order of first appearance
    usual = max(counts, key=lambda value: counts[value]) if counts else b""
    return tuple(rank for rank, value in enumerate(values) if value != usual)


def first_difference(comm: Communicator, lines: Sequence[str]) -> str | None:
    """Find the first line that the ranks do not share, and say who has which.

    Args:
        comm: whose ranks compare.
        lines: this rank's description, one thing per line, in one order.

    Returns:
        The same sentence on every rank; None if all lines are the same.

    Collective: every rank.
    """
    payloads = comm.all_gather_bytes("\n".join(lines).encode())
    texts = [payload.decode().split("\n") for payload in payloads]
    for index in range(max(map(len, texts))):
        found = [text[index] if index < len(text) else "" for text in texts]
        odd = odd_ranks([line.encode() for line in found])
        if odd:
            usual = next(rank for rank in range(comm.size) if rank not in odd)
            return (
                f"ranks {list(odd)} differ from rank {usual}: "
                f"{_line(found[odd[0]])} there, {_line(found[usual])} on rank {usual}"
            )
    return None


def _line(text: str) -> str:
    return repr(text[:_MAX_SHOWN]) if text else "nothing"


def _shown(value: bytes) -> str:
    text = value.decode(errors="backslashreplace")
    if len(text) > _MAX_SHOWN:
        text = f"{text[:_MAX_SHOWN]}... ({len(value)} bytes)"
    return repr(text)
