"""Gradients in, the reduced owned interval out: the communication of one bucket.

Inside a node nothing is sent: this rank reads its lane from its peers' gradients.
Between nodes canonical reduction sends every owner its interval of each node's sum, and
the owner adds them in the order of `runtime/tree.py`; fast reduction leaves that order
to MPI. What travels is only started here, see `flights.py`. The reducer does not know
what a gradient is used for, and scales nothing.
"""

from collections.abc import Callable, Sequence

import numpy as np

from parallel_params.comm.protocol import Communicator, Pending
from parallel_params.runtime.flights import DONE, Flight, Flights
from parallel_params.runtime.role import Role
from parallel_params.runtime.summing import BLOCK, RowSum, first_non_finite
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


class Reducer:
    """Sums one bucket's gradients over its group, and gathers what owners have.

    Args:
        role: this rank's part.
        flights: shared by all reducers of the rank.
        dtype: of the bucket.
        wire: of what travels between nodes; None for `dtype`.
        is_canonical: whether the order of the sum is fixed.
    """

    def __init__(
        self,
        role: Role,
        flights: Flights,
        *,
        dtype: "np.dtype[np.generic]",
        wire: "np.dtype[np.generic] | None",
        is_canonical: bool,
    ) -> None:
        self._role = role
        self._flights = flights
        self._dtype = dtype
        self._wire = narrower(wire, dtype)
        self._is_canonical = is_canonical
        self._sums: dict[int, RowSum] = {}
        self._rows: Sequence[Array] = ()

    def start_reduce(
        self,
        peers: Sequence[Array],
        out: Array,
        *,
        slot: int = 0,
        then: Callable[[], None] | None = None,
    ) -> Flight | None:
        """Start to put the sum of this rank's interval over the whole group into `out`.

        Args:
            peers: [numel] gradients of the members on this node, which nobody writes.
            out: [own numel]; may be that part of this rank's own gradient.
            slot: tells apart the few sets of `peers` that are used again and again.
            then: called once the sum is there, before this returns if nothing travels.

        Returns:
            What is under way, None if nothing is. Where a rank is alone on its node its
            gradient travels as it lies: nobody may write there before it has landed.

        Collective: the cross group, buckets in one order.
        """
        role = self._role
        if role.cross is None:
            own = role.own.as_slice()
            self._rows = [peer[own] for peer in peers]
            if slot not in self._sums:
                self._sums[slot] = RowSum(self._rows, out)
            self._sums[slot].run_all()
            if then is not None:
                then()
            return None
        num_rows = role.num_nodes if self._is_canonical else 1
        is_packed = role.num_local > 1 or self._wire is not None
        lane = sum(role.lane_counts) if is_packed else 0
        flight = self._flights.claim()
        send, rows = flight.take(
            self._wire or self._dtype, lane, num_rows * role.own.numel
        )
        if is_packed:
            self._pack(peers, send)
        else:
            send = peers[0]

        def land() -> None:
            self._rows = list(rows.reshape(num_rows, role.own.numel))
            RowSum(self._rows, out).run_all()
            if then is not None:
                then()

        flight.depart(self._exchange(role.cross, send, rows), land)
        return flight

    def first_non_finite(self, values: Array) -> tuple[int, int] | None:
        """Find the first element of the sum that is no finite number, and whose it is.

        Args:
            values: [own numel] what `start_reduce` has just brought.

        Returns:
            Index in the bucket, and the position in the group of a member that
            contributed it (of its node's first member, if only the node is known).
        """
        for start in range(0, values.size, BLOCK):
            found = first_non_finite(values[start : start + BLOCK])
            if found is not None:
                index = start + found
                return self._role.own.start + index, self._culprit(index)
        return None

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
        flight = self._flights.claim()
        if role.num_local == 1:
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

    def _pack(self, peers: Sequence[Array], send: Array) -> None:
        for interval, place in zip(
            self._role.lane, _places(self._role.lane_counts), strict=True
        ):
            rows = [peer[interval.as_slice()] for peer in peers]
            if send.dtype == self._dtype:
                RowSum(rows, send[place]).run_all()
                continue
            total: Array = np.empty(interval.numel, self._dtype)
            RowSum(rows, total).run_all()
            np.copyto(send[place], total, casting="unsafe")

    def _culprit(self, index: int) -> int:
        """Return whose row has the element; the own row may be overwritten, so last."""
        role = self._role
        own_row = role.local if role.cross is None else role.node
        wrong = [
            row
            for row, values in enumerate(self._rows)
            if row != own_row and not np.isfinite(values[index])
        ]
        row = wrong[0] if wrong else own_row
        if role.cross is None:
            return role.node * role.num_local + row
        # Of a row from a node only the node is known: its first member stands for it.
        return row * role.num_local


def _places(counts: Sequence[int]) -> list[slice]:
    places, start = [], 0
    for count in counts:
        places.append(slice(start, start + count))
        start += count
    return places
