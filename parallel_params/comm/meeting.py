"""Where the threads of a local world meet: rounds, failures and waits that never end.

One lock and one condition for the whole world: worlds of threads are small, and only
so can it be seen that every rank waits. What is exchanged is not understood here.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parallel_params.comm.protocol import Rank
from parallel_params.errors import CommunicationError, RankFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one rank brings to a collective.

    Attributes:
        text: the collective in words; the same on every rank, or it is an error.
        data: bytes that the other ranks read; nobody writes them any more.
        send_counts: elements for each rank, where ranks may send different numbers.
        recv_counts: elements that this rank expects from each.
    """

    text: str
    data: NDArray[np.uint8] | None = None
    send_counts: tuple[int, ...] = ()
    recv_counts: tuple[int, ...] = ()

    @property
    def sent(self) -> NDArray[np.uint8]:
        """The bytes, where the caller knows that there are some."""
        assert self.data is not None
        return self.data


@dataclass(slots=True, eq=False)
class Round:
    """One collective of the members of a meeting, as far as they have come."""

    calls: dict[int, Call] = field(default_factory=dict)
    problem: str = ""
    is_complete: bool = False
    child: "Meeting | None" = None


class Meeting:
    """The ranks of one communicator, and the collective they are about to issue."""

    def __init__(self, members: tuple[Rank, ...]) -> None:
        self.members = members
        # The rounds that some member has not entered yet, by their number: who only
        # starts a collective may be several rounds ahead.
        self.rounds: dict[int, Round] = {}
        self.num_entered = [0] * len(members)
        # The last round that each member entered: where a new group is picked up.
        self.last: dict[int, Round] = {}


class ThreadWorld:
    """The state that all threads of a local world share."""

    def __init__(self, *, num_ranks: int, timeout_s: float | None) -> None:
        self.num_ranks = num_ranks
        self.whole = Meeting(tuple(range(num_ranks)))
        self._timeout_s = timeout_s
        self._condition = threading.Condition()
        self._lobbies: dict[tuple[Rank, ...], Meeting] = {}
        self._waiting: dict[Rank, tuple[Meeting, Round, Call]] = {}
        self._left: set[Rank] = set()
        self._errors: list[tuple[Rank, BaseException]] = []
        self._wakes: list[RankFailed] = []
        self._stuck = ""

    def lobby(self, members: tuple[Rank, ...]) -> Meeting:
        """Return the one place where these ranks meet to make a group."""
        with self._condition:
            return self._lobbies.setdefault(members, Meeting(members))

    def new_meeting(self, lobby: Meeting, position: int) -> Meeting:
        """Return the meeting that belongs to the round this member just completed."""
        with self._condition:
            done = lobby.last[position]
            if done.child is None:
                done.child = Meeting(lobby.members)
            return done.child

    def exchange(self, meeting: Meeting, position: int, call: Call) -> list[Call]:
        """Wait until every member has called, then return all calls, in their order.

        Raises:
            CommunicationError: the members' calls do not fit together, or never can
                all come; on every member.
            RankFailed: another rank has raised.
        """
        return self.wait(meeting, position, self.enter(meeting, position, call))

    def enter(self, meeting: Meeting, position: int, call: Call) -> Round:
        """Bring a call to the member's next round and do not wait for the others.

        Raises:
            RankFailed: another rank has raised.
        """
        with self._condition:
            if self._errors:
                raise self._wake()
            number = meeting.num_entered[position]
            meeting.num_entered[position] += 1
            current = meeting.rounds.setdefault(number, Round())
            current.calls[position] = call
            meeting.last[position] = current
            if len(current.calls) == len(meeting.members):
                del meeting.rounds[number]
                self._complete(meeting, current)
            return current

    def wait(self, meeting: Meeting, position: int, current: Round) -> list[Call]:
        """Wait until every member has entered a round; see `exchange`."""
        rank = meeting.members[position]
        with self._condition:
            if not current.is_complete:
                self._wait(meeting, current, rank, current.calls[position])
        if current.problem:
            raise CommunicationError(current.problem)
        return [current.calls[place] for place in range(len(meeting.members))]

    def leave(self, rank: Rank, error: BaseException | None) -> None:
        """Note that a rank's body has returned, or what it raised."""
        with self._condition:
            self._left.add(rank)
            if error is not None:
                self._errors.append((rank, error))
                self._condition.notify_all()
            self._find_deadlock()

    def raise_first(self) -> None:
        """Raise what ended the world, if something did.

        The rank that a `RankFailed` names knows the cause, so it goes first; the ranks
        that were only woken come last.
        """
        if not self._errors:
            return

        def order(failure: tuple[Rank, BaseException]) -> tuple[bool, bool]:
            rank, error = failure
            is_other = isinstance(error, RankFailed) and error.rank != rank
            return any(error is wake for wake in self._wakes), is_other

        rank, error = min(self._errors, key=order)
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"raised on rank {rank} of {self.num_ranks} threads")
        raise error

    def _complete(self, meeting: Meeting, current: Round) -> None:
        current.problem = _disagreement(meeting.members, current.calls)
        current.is_complete = True
        for member in meeting.members:
            if member in self._waiting and self._waiting[member][1] is current:
                del self._waiting[member]
        self._condition.notify_all()

    def _wait(self, meeting: Meeting, current: Round, rank: Rank, call: Call) -> None:
        if self._errors:
            raise self._wake()
        self._waiting[rank] = (meeting, current, call)
        self._find_deadlock()
        is_in_time = self._condition.wait_for(
            lambda: current.is_complete or self._errors or self._stuck,
            self._timeout_s,
        )
        if current.is_complete:
            return
        self._waiting.pop(rank, None)
        if self._errors:
            raise self._wake()
        if self._stuck:
            raise CommunicationError(self._stuck)
        assert not is_in_time
        absent = sorted(
            set(meeting.members) - {meeting.members[p] for p in current.calls}
        )
        raise CommunicationError(
            f"rank {rank} waited {self._timeout_s} s in {call.text}; ranks {absent} "
            f"did not come."
        )

    def _wake(self) -> RankFailed:
        rank, error = self._errors[0]
        text = f"rank {rank} failed: {type(error).__name__}: {error}"
        failure = RankFailed(text, rank=rank)
        failure.__cause__ = error
        self._wakes.append(failure)
        return failure

    def _find_deadlock(self) -> None:
        """Wake everybody with an error if no rank is left that could end a wait."""
        if not self._waiting or self._errors or self._stuck:
            return
        if len(self._waiting) + len(self._left - set(self._waiting)) < self.num_ranks:
            return
        where = [
            f"rank {rank} in {call.text} of ranks {list(meeting.members)}"
            for rank, (meeting, _, call) in sorted(self._waiting.items())
        ]
        where += [f"rank {rank} has returned" for rank in sorted(self._left)]
        self._stuck = (
            f"the ranks wait for each other: {'; '.join(where)}. Every rank must issue "
            f"the same collectives in the same order."
        )
        self._condition.notify_all()


def _disagreement(members: tuple[Rank, ...], calls: dict[int, Call]) -> str:
    """Say how the calls of a round contradict each other; empty if they do not."""
    texts = {call.text for call in calls.values()}
    if len(texts) > 1:
        each = "; ".join(
            f"rank {member}: {calls[place].text}"
            for place, member in enumerate(members)
        )
        return (
            f"the ranks called different collectives: {each}. Every rank must issue "
            f"the same collectives in the same order."
        )
    for receiver, call in sorted(calls.items()):
        for sender, count in enumerate(call.recv_counts):
            sent = calls[sender].send_counts[receiver]
            if sent != count:
                return (
                    f"{call.text}: rank {members[sender]} sends {sent} elements to "
                    f"rank {members[receiver]}, which expects {count}."
                )
    return ""


class LocalPending:
    """A `Pending` of a thread: what it receives is copied when it waits."""

    def __init__(self, finish: Callable[[], None]) -> None:
        self._finish: Callable[[], None] | None = finish

    def wait(self) -> None:
        """See `Pending.wait`."""
        if self._finish is not None:
            self._finish()
            self._finish = None
