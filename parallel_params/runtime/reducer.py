"""Gradients in, the reduced owned interval out: the communication of one bucket.

Inside a node nothing is sent: this rank reads its lane from its peers' gradients.
Between nodes canonical reduction sends every owner its interval of each node's sum, and
the owner adds them in the order of `runtime/tree.py`; fast reduction leaves that order
to MPI. What travels is only started here, see `flights.py`. The reducer does not know
what a gradient is used for, and scales nothing.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from parallel_params.comm.protocol import DONE, Communicator, Pending
from parallel_params.runtime.flights import Flight, Flights
from parallel_params.runtime.role import Role
from parallel_params.runtime.summing import Fault, RowSum, Scratch
from parallel_params.tensor.tape import Array


def flight_bytes(
    role: Role,
    dtype: "np.dtype[np.generic]",
    *,
    is_canonical: bool,
    wire: "np.dtype[np.generic] | None",
) -> int:
    """Return the bytes that one message of a bucket needs at most.

    Args:
        role: this rank's part.
        dtype: of the bucket.
        is_canonical: whether the order of the sum is fixed.
        wire: of gradients between nodes; None for `dtype`.
    """
    if role.cross is None:
        return 0
    lane = sum(role.lane_counts)
    gathered = dtype.itemsize * lane if role.num_local > 1 else 0
    if not role.bucket.is_trainable:
        return gathered
    wire = narrower(wire, dtype)
    rows = role.own.numel * (role.num_nodes if is_canonical else 1)
    packed = lane if role.num_local > 1 or wire is not None else 0
    return max((wire or dtype).itemsize * (packed + rows), gathered)


def narrower(
    wire: "np.dtype[np.generic] | None", dtype: "np.dtype[np.generic]"
) -> "np.dtype[np.generic] | None":
    """Return what travels instead of `dtype`; None if it does itself."""
    return wire if wire is not None and wire.itemsize < dtype.itemsize else None


class Cause(IntEnum):
    """Why a sum of gradients is not finite; of two for one element the first counts."""

    GRADIENT = 0
    """A rank's gradient is not."""
    WIRE = 1
    """What a rank sends is finite, but not what it is rounded to on the wire."""
    SUM = 2
    """All gradients in it are finite, and their sum overflows."""
    NODE = 3
    """What the ranks of a node send is not; they know why."""
    UNKNOWN = 4
    """MPI has made the sum, and does not tell."""


class Finding(NamedTuple):
    """An element of a sum that is not finite.

    Attributes:
        element: its number in the bucket.
        cause: why.
        position: in the group, of the member that it comes from; else the own one.
    """

    element: int
    cause: Cause
    position: int


class Reducer:
    """Sums one bucket's gradients over its group, and gathers what owners have.

    Args:
        role: this rank's part.
        flights: shared by all reducers of the rank.
        dtype: of the bucket.
        wire: of what travels between nodes; None for `dtype`.
        is_canonical: whether the order of the sum is fixed.
        is_watched: whether to look for what is not finite.
        scratch: for running sums.
    """

    def __init__(
        self,
        role: Role,
        flights: Flights,
        *,
        dtype: "np.dtype[np.generic]",
        wire: "np.dtype[np.generic] | None",
        is_canonical: bool,
        is_watched: bool,
        scratch: Scratch,
    ) -> None:
        self._role = role
        self._flights, self._scratch = flights, scratch
        self._dtype = dtype
        self._wire = narrower(wire, dtype)
        self._is_canonical, self._is_watched = is_canonical, is_watched
        self._is_packed = role.num_local > 1 or self._wire is not None
        self._sums: dict[int, RowSum] = {}

    def start_reduce(
        self,
        peers: Sequence[Array],
        out: Array,
        *,
        slot: int = 0,
        then: Callable[[Sequence[Finding]], None],
    ) -> Flight | None:
        """Start to put the sum of this rank's interval over the whole group into `out`.

        Args:
            peers: [numel] gradients of the members on this node, which nobody writes.
            out: [own numel]; may be that part of this rank's own gradient.
            slot: tells apart the few sets of `peers` that are used again and again.
            then: called once the sum is there, before this returns if nothing travels,
                with what is not finite in it, or in what was sent for others' sums.

        Returns:
            What is under way, None if nothing is. Where a rank is alone on its node its
            gradient travels as it lies: nobody may write there before it has landed.

        Collective: the cross group, buckets in one order.
        """
        role = self._role
        if role.cross is None:
            if slot not in self._sums:
                members = [peer[role.own.as_slice()] for peer in peers]
                self._sums[slot] = RowSum(members, out, self._scratch)
            then(self._judge(self._sums[slot].run(is_watched=self._is_watched)))
            return None
        num_rows = role.num_nodes if self._is_canonical else 1
        lane = sum(role.lane_counts) if self._is_packed else 0
        flight = self._flights.claim()
        send, rows = flight.take(
            self._wire or self._dtype, lane, num_rows * role.own.numel
        )
        findings: list[Finding] = []
        if self._is_packed:
            findings = self._pack(peers, send)
        else:
            send = peers[0]

        def land() -> None:
            parts = list(rows.reshape(num_rows, role.own.numel))
            fault = RowSum(parts, out, self._scratch).run(is_watched=self._is_watched)
            then([*findings, *self._judge(fault)])

        flight.depart(self._exchange(role.cross, send, rows), land)
        return flight

    def add(self, rows: Sequence[Array], out: Array) -> list[Finding]:
        """Put the sum of some values of this rank's interval into `out`, one of them.

        Args:
            rows: [own numel] each.
            out: [own numel] receives the sum.

        Returns:
            What overflows in the sum of what is finite.
        """
        fault = RowSum(rows, out, self._scratch).run(is_watched=self._is_watched)
        if fault is None or fault.row is not None:
            return []
        index = self._role.own.start + fault.element
        return [Finding(index, Cause.SUM, self._role.position)]

    def start_gather(self, buffer: Array) -> Flight | None:
        """Start to complete the lane of `buffer` [numel] from what its owners have.

        Returns:
            What brings the lane; None if it is there. Until it has landed nobody may
            write to the lane, and others of the node find the rest of it undefined.

        Collective: the cross group.
        """
        role = self._role
        if role.cross is None:
            return None
        is_bare = role.num_local == 1  # received where it belongs
        flight = self._flights.claim(is_bare=is_bare)
        if is_bare:
            flight.depart(role.cross.start_all_gather(buffer, role.lane_counts))
            return flight
        (packed,) = flight.take(self._dtype, sum(role.lane_counts))
        places = _places(role.lane_counts)
        packed[places[role.node]] = buffer[role.own.as_slice()]

        def land() -> None:
            for node, interval in enumerate(role.lane):
                if node != role.node:
                    buffer[interval.as_slice()] = packed[places[node]]

        flight.depart(role.cross.start_all_gather(packed, role.lane_counts), land)
        return flight

    def _exchange(self, cross: Communicator, send: Array, rows: Array) -> Pending:
        counts = self._role.lane_counts
        if not self._is_canonical:
            cross.reduce_scatter(send, counts, rows)
            return DONE
        own = (self._role.own.numel,) * self._role.num_nodes
        return cross.start_all_to_all(send, counts, rows, own)

    def _pack(self, peers: Sequence[Array], send: Array) -> list[Finding]:
        role, findings = self._role, []
        for interval, place in zip(role.lane, _places(role.lane_counts), strict=True):
            rows = [peer[interval.as_slice()] for peer in peers]
            total = RowSum(rows, send[place], self._scratch, self._dtype)
            fault = total.run(is_watched=self._is_watched)
            if fault is not None:
                index = interval.start + fault.element
                findings.append(self._blame(index, fault))
        return findings

    def _judge(self, fault: Fault | None) -> list[Finding]:
        """Say what is wrong with the sum that this rank owns."""
        if fault is None:
            return []
        role, index = self._role, self._role.own.start + fault.element
        if role.cross is None:
            return [self._blame(index, fault)]
        if not self._is_canonical:
            return [Finding(index, Cause.UNKNOWN, role.position)]
        if fault.row is None:
            return [Finding(index, Cause.SUM, role.position)]
        # The first member of its node stands for it where there are more.
        cause = Cause.NODE if self._is_packed else Cause.GRADIENT
        return [Finding(index, cause, fault.row * role.num_local)]

    def _blame(self, index: int, fault: Fault) -> Finding:
        """Say whose fault it is in a sum over members of a node."""
        role = self._role
        if fault.row is not None:
            position = role.node * role.num_local + fault.row
            return Finding(index, Cause.GRADIENT, position)
        return Finding(
            index, Cause.WIRE if fault.is_rounded else Cause.SUM, role.position
        )


def _places(counts: Sequence[int]) -> list[slice]:
    places, start = [], 0
    for count in counts:
        places.append(slice(start, start + count))
        start += count
    return places
