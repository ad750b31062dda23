"""Where the ranks of an axis make sure that they are about to do the same.

Cells that are cut along an axis send activations in the middle of a pass. Two things
can go wrong there that cannot go wrong in a step: a rank raises while the others wait
for its part, or the ranks are not in the same operator. So every collective is preceded
by a message of 8 bytes a rank that says what comes; a rank that gives up says that
instead, and all ranks of the axis raise together.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from parallel_params.comm.protocol import Communicator, Pending, Rank
from parallel_params.errors import CommunicationError, PlanMismatch, RankFailed

_GAVE_UP = -1
_ENDED = -2


class Rendezvous:
    """The messages in front of collectives along one axis.

    Args:
        comm: the ranks along the axis; None if nothing will be sent.
        name: of the axis.
        ranks: their numbers in the world.
        index: this rank's place among them.
    """

    def __init__(
        self, comm: Communicator | None, name: str, ranks: Sequence[Rank], index: int
    ) -> None:
        self._comm, self._name, self._ranks, self._index = comm, name, ranks, index
        self._is_alone = len(ranks) == 1
        self._marks = np.zeros(len(ranks), np.int64)
        self._ordinal = 0
        self._is_over = False
        self._is_closed = False
        self._parting: Pending | None = None

    def close(self) -> None:
        """Free the communicator, if there is one; see `Axis.close`."""
        if self._comm is not None:
            self._comm.close()
            self._comm, self._is_closed = None, True

    def begin(self) -> None:
        """Start a pass, which `end` ends; `Axis.guard` does both."""
        self._ordinal, self._is_over, self._parting = 0, False, None

    def meet(self, doing: str) -> Communicator:
        """Return the communicator once all ranks are about to do the same.

        Args:
            doing: names operator, shape and type.

        Raises:
            RankFailed: a rank gave up.
            PlanMismatch: the ranks are about to do different things.
            CommunicationError: there is no communicator, or it is closed.

        Collective: the ranks along the axis.
        """
        self._ordinal += 1
        self._start(zlib.crc32(f"{self._ordinal} {doing}".encode())).wait()
        difference = self._difference(doing)
        if difference is not None:
            raise difference
        assert self._comm is not None
        return self._comm

    def give_up(self) -> None:
        """Tell the others that this rank has raised, without waiting for them.

        They may be waiting for it in collectives of other kinds, which it still owes.
        """
        if not self._is_alone and not self._is_over:
            self._parting = self._start(_GAVE_UP)
            self._is_over = True

    def end(self) -> Exception | None:
        """Wait for the others to end their pass, or to learn that this one gave up.

        Returns:
            What `meet` would have raised: `RankFailed` if another rank gave up,
            `PlanMismatch` if the others have more to do in this pass.

        Collective: the ranks along the axis.
        """
        if self._parting is not None:
            self._parting.wait()
            self._parting = None
        elif not self._is_alone and not self._is_over:
            self._start(_ENDED).wait()
            return self._difference("the end of the pass")
        return None

    def _start(self, mark: int) -> Pending:
        if self._is_closed:
            raise CommunicationError(
                f"axis {self._name!r} is closed; run cells that are cut along it "
                "before, inside of its with block"
            )
        if self._comm is None:
            raise CommunicationError(
                f"axis {self._name!r} was made without a communicator, for a plan; "
                "open it with open_axis(comm, mesh) to run cells that are cut along it"
            )
        self._marks[self._index] = mark
        return self._comm.start_all_gather(self._marks, (1,) * len(self._ranks))

    def _difference(self, doing: str) -> Exception | None:
        """Return the error to raise on every rank, unless all said the same."""
        marks = self._marks.tolist()
        if marks.count(marks[0]) == len(marks):
            return None
        self._is_over = True
        if _GAVE_UP in marks:
            rank = self._ranks[marks.index(_GAVE_UP)]
            return RankFailed(
                f"rank {rank} gave up in the middle of a pass along axis "
                f"{self._name!r}; this rank was at {doing}",
                rank=rank,
            )
        return PlanMismatch(
            f"the ranks {list(self._ranks)} along axis {self._name!r} are not in the "
            f"same operator, or have arrays of different shapes; this rank is at "
            f"{doing}. Run the same cells in the same order, on shares of one length"
        )
