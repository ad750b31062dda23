"""Collectives during backward: gathers of weights, reductions of streamed buckets.

All ranks issue them in one order that the plan fixes, whatever gradients arrive when: a
bucket that is complete early waits for those before it. Gradients of streamed buckets
pass through two slots: one is filled while the other one travels. What arrives before
its slot is free waits in memory of its own. A rank that fails on the way still issues
what is left, so that nobody waits.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from parallel_params.plan.memory import NUM_SLOTS
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.flights import Flight, Flights
from parallel_params.runtime.gatherer import Gatherer
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.tensor.tape import Array

Item = tuple[Literal["start", "gather", "reduce"], int]


class _Stream:
    """One streamed bucket on its way through a backward pass."""

    def __init__(self, arena: Arena, own: Sequence[Array]) -> None:
        self.arena = arena
        self.own = tuple(own)
        self.peers = arena.peers or tuple((slot,) for slot in own)
        self.views: list[Array] | None = None
        self.buffer: Array = self.own[0]
        self.filled = [False] * len(arena.parameters)
        self.num_pending = 0

    def begin(self) -> None:
        self.views = None
        self.filled = [False] * len(self.filled)
        self.num_pending = len(self.filled)


class Streams:
    """Issues the collectives of a rank's backward passes.

    Args:
        streamed: arenas of the streamed buckets, in plan order.
        gathered: bucket index of every gathered bucket, in plan order.
        gatherer: gathers these.
        node: the windows of the rank's node.
        reduce: starts to reduce an arena's gradients in the given slot.
        flights: what is under way between nodes.

    Attributes:
        num_waiting: how often a gradient could not be put into its slot at once.
    """

    def __init__(
        self,
        streamed: Sequence[Arena],
        gathered: Sequence[int],
        gatherer: Gatherer,
        node: NodeMemory,
        reduce: Callable[[Arena, Sequence[Array], int], Flight | None],
        flights: Flights,
    ) -> None:
        largest = max((arena.bucket.weight_bytes for arena in streamed), default=0)
        is_private = any(not arena.peers for arena in streamed)
        memory = [
            np.empty(largest if is_private else 0, np.uint8) for _ in range(NUM_SLOTS)
        ]
        self._streams = [
            _Stream(
                arena,
                [slot[arena.role.local] for slot in arena.peers]
                or [m[: arena.bucket.weight_bytes].view(arena.dtype) for m in memory],
            )
            for arena in streamed
        ]
        self._gatherer, self._node, self._reduce = gatherer, node, reduce
        self._flights = flights
        # Of every slot: what may still read it.
        self._readers: list[Flight | None] = [None] * NUM_SLOTS
        buckets = [stream.arena.bucket.index for stream in self._streams]
        self._order, self._due = make_order(gathered, buckets, gatherer.releases)
        # Of every stream: how many are reduced before it, which decides on its slot.
        reduced = [which for kind, which in self._order if kind == "reduce"]
        self._turns = {which: turn for turn, which in enumerate(reduced)}
        self._next = self._num_reduced = self._num_partials = 0
        self._has_gathers = True
        self.num_waiting = 0

    def begin(self, *, num_partials: int, has_gathers: bool) -> None:
        """Get ready for the last backward pass of a step.

        Args:
            num_partials: sums of earlier grains that the gradients are added to.
            has_gathers: whether weights are gathered on the way.
        """
        self._next = self._num_reduced = 0
        self._num_partials, self._has_gathers = num_partials, has_gathers
        for stream in self._streams:
            stream.begin()

    def sink(self, index: int, member: int) -> Array:
        """Return where a parameter's gradient goes; asked for when it arrives."""
        stream = self._streams[index]
        stream.filled[member] = True
        return self._views(index)[member]

    def final(self, index: int) -> None:
        """Note that a parameter of streamed bucket `index` has its gradient, or none.

        Collective: issues the reductions that have become possible.
        """
        self._streams[index].num_pending -= 1
        while self._next < len(self._order):
            kind, which = self._order[self._next]
            if kind != "reduce" and self._has_gathers:
                return
            if kind == "reduce" and self._streams[which].num_pending > 0:
                return
            self._run_next()

    def run_due(self, k: int) -> None:
        """Issue what is due when backward is done with the k-th gather of forward.

        Args:
            k: the number of gathers before backward starts.

        Collective: all ranks.
        """
        while self._next < self._due[k]:
            self._run_next()

    def drain(self) -> None:
        """Issue all that is left and wait; what has not arrived counts as zero."""
        while self._next < len(self._order):
            self._run_next()
        self._flights.land_all()

    def _run_next(self) -> None:
        kind, which = self._order[self._next]
        self._next += 1
        if kind == "reduce":
            self._run_reduction(which)
        elif self._has_gathers and kind == "start":
            self._gatherer.start(which)
        elif self._has_gathers:
            self._gatherer.arrive(which)

    def _run_reduction(self, index: int) -> None:
        stream = self._streams[index]
        for view, is_filled in zip(self._views(index), stream.filled, strict=True):
            if not is_filled:
                view.fill(0)
        slot = self._turns[index] % NUM_SLOTS
        target = stream.own[slot]
        self._free(slot)
        if stream.buffer is not target:
            np.copyto(target, stream.buffer)
        for partial in reversed(stream.arena.partials[: self._num_partials]):
            np.add(partial, target, target)
        if stream.arena.role.num_local > 1:
            self._node.hand_over_gradients()
        self._readers[slot] = self._reduce(stream.arena, stream.peers[slot], slot)
        self._num_reduced += 1

    def _free(self, slot: int) -> None:
        """Wait for the message that travels out of a slot, if one does."""
        reader, self._readers[slot] = self._readers[slot], None
        if reader is not None:
            reader.land()

    def _views(self, index: int) -> list[Array]:
        stream = self._streams[index]
        if stream.views is None:
            # A peer may still read the slot until the reduction in between is on its
            # way: then all have left the one before.
            turn = self._turns[index]
            needed = turn if stream.arena.peers else turn - NUM_SLOTS + 1
            if self._num_reduced >= needed:
                self._free(turn % NUM_SLOTS)
                stream.buffer = stream.own[turn % NUM_SLOTS]
            else:
                stream.buffer = np.empty_like(stream.own[0])
                self.num_waiting += 1
            stream.views = stream.arena.views(stream.buffer)
        return stream.views


def make_order(
    gathered: Sequence[int], streamed: Sequence[int], releases: Sequence[int]
) -> tuple[list[Item], list[int]]:
    """Fix the order of the collectives of a backward pass.

    Backward runs through the gathers of forward the other way round. When it has no
    more use for what forward gathered as its k-th, those that forward gave back at that
    point must be there again; that bucket's gradients are complete and are reduced; and
    what is needed after the next one is started. What is reduced without being gathered
    may be complete at any time, so it comes last.

    Args:
        gathered: bucket index of every gathered bucket, in plan order.
        streamed: the same of every streamed bucket.
        releases: see `Gatherer.releases`.

    Returns:
        What to do with which position in `gathered` or `streamed`; and how many of
        these are due when backward is done with the k-th gather of forward, and last
        before it starts.
    """
    position = {bucket: i for i, bucket in enumerate(streamed)}
    last = len(gathered) - 1
    # By event of backward: what is needed from then on.
    needed = {
        k: sorted(last - f for f, release in enumerate(releases) if release == k)
        for k in range(len(gathered) + 1)
    }
    order: list[Item] = [("start", i) for i in needed[len(gathered)]]
    due = [0] * (len(gathered) + 1)
    for k in reversed(range(len(gathered) + 1)):
        order += [("gather", i) for i in needed[k]]
        if k < len(gathered) and gathered[last - k] in position:
            order.append(("reduce", position[gathered[last - k]]))
        order += [("start", i) for i in needed.get(k - 1, [])]
        due[k] = len(order)
    rest = [i for i, bucket in enumerate(streamed) if bucket not in set(gathered)]
    return order + [("reduce", i) for i in rest], due
