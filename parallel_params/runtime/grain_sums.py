"""Where the gradient of each grain of a rank goes, and how the grains are added up.

Both follow from the number of grains alone, so they are worked out once. Gradients of a
streamed bucket pass through its stream for the last grain; those of the grains before
lie in partial sums until then.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from parallel_params.runtime.arena import Arena
from parallel_params.runtime.stream import Streams
from parallel_params.runtime.tree import GrainSum
from parallel_params.tensor.frame import Sink
from parallel_params.tensor.tape import Array

Pairs = tuple[tuple[int, int], ...]
"""(target, source) of additions, in order."""


class Turn(NamedTuple):
    """What becomes of one grain.

    Attributes:
        position: of the grain among the rank's.
        is_last: whether it is the last of them.
        slot: the buffer of a plain bucket that it is computed in.
        sums: of these buffers, that are due then.
        num_partials: of a streamed bucket, that hold the grains before.
        partial_sums: of these, that are due then.
    """

    position: int
    is_last: bool
    slot: int
    sums: Pairs
    num_partials: int
    partial_sums: Pairs


def turns_of(num_grains: int) -> list[Turn]:
    """Return the turns of so many grains, the first one first."""
    sums: list[tuple[int, int]] = []
    partial_sums: list[tuple[int, int]] = []
    plain = GrainSum(lambda *pair: sums.append(pair))
    partial = GrainSum(lambda *pair: partial_sums.append(pair))
    turns: list[Turn] = []
    for position in range(num_grains):
        slot, num_partials = plain.slot, partial.slot
        is_last = position == num_grains - 1
        plain.close()
        if is_last:
            plain.finish()
        else:
            partial.close()
        sums_now, partial_now = tuple(sums), tuple(partial_sums)
        turns.append(Turn(position, is_last, slot, sums_now, num_partials, partial_now))
        sums.clear()
        partial_sums.clear()
    return turns


class GrainSums:
    """The buffers that the gradients of one rank's grains are computed in.

    Args:
        plain: arenas of the buckets that are reduced behind the backward pass.
        streamed: of those that are reduced on its way.
        streams: of `streamed`, in this order.
        num_grains: of the rank.

    Attributes:
        turns: of the grains.
    """

    def __init__(
        self,
        plain: Sequence[Arena],
        streamed: Sequence[Arena],
        streams: Streams,
        num_grains: int,
    ) -> None:
        self.turns = turns_of(num_grains)
        self._plain, self._streamed = tuple(plain), tuple(streamed)
        self._plain_sinks: list[list[Sink]] = [
            [view for arena in plain for view in arena.views(_buffer(arena, slot))]
            for slot in range(num_grains.bit_length())
        ]
        self._partial_sinks: list[list[Sink]] = [
            [view for a in streamed for view in a.views(a.partials[slot])]
            for slot in range((num_grains - 1).bit_length())
        ]
        self._lazy: list[Sink] = [
            _asking(streams, number, member)
            for number, arena in enumerate(streamed)
            for member in range(len(arena.parameters))
        ]

    def sinks(self, turn: Turn, whole: Sequence[Array] | None) -> list[Sink]:
        """Return where the gradients of a grain go: plain ones, then streamed ones.

        Args:
            turn: of the grain.
            whole: a buffer [numel] for every streamed bucket, which is not reduced.
        """
        plain = self._plain_sinks[turn.slot]
        if not self._streamed:
            return plain
        if not turn.is_last:
            return plain + self._partial_sinks[turn.num_partials]
        if whole is None:
            return plain + self._lazy
        pairs = zip(self._streamed, whole, strict=True)
        return plain + [view for arena, buffer in pairs for view in arena.views(buffer)]

    def add(self, turn: Turn) -> None:
        """Add up what has become possible with the grain of this turn."""
        for target, source in turn.sums:
            for arena in self._plain:
                into = _buffer(arena, target)
                np.add(into, _buffer(arena, source), into)
        for target, source in turn.partial_sums:
            for arena in self._streamed:
                into = arena.partials[target]
                np.add(into, arena.partials[source], into)

    def add_partials(self, whole: Sequence[Array]) -> None:
        """Add the grains before the last one to buffers [numel] of streamed buckets."""
        num_partials = self.turns[-1].num_partials
        for arena, buffer in zip(self._streamed, whole, strict=True):
            for partial in reversed(arena.partials[:num_partials]):
                np.add(partial, buffer, buffer)


def _buffer(arena: Arena, slot: int) -> Array:
    return arena.gradient if slot == 0 else arena.partials[slot - 1]


def _asking(streams: Streams, number: int, member: int) -> Callable[[], Array]:
    return lambda: streams.sink(number, member)
