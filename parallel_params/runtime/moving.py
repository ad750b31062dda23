"""Carries weights and optimizer state from the arenas of one plan to those of another.

What goes where is in the moves that the plans gave; here it is copied, or sent to who
needs it, bucket by bucket of the new plan. All memory for it is taken beforehand.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from parallel_params.comm.protocol import Communicator
from parallel_params.plan.bucket import Extent
from parallel_params.plan.moves import BucketMoves, Moves
from parallel_params.plan.pieces import Piece
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.runtime.arena import Arena
from parallel_params.tensor.tape import Array


class Mover:
    """Executes one rank's moves.

    Args:
        moves: what is to be done.
        comm: all ranks of both plans.
    """

    def __init__(self, moves: Moves, comm: Communicator) -> None:
        self._moves, self._comm = moves, comm
        buckets = moves.buckets
        self._send: Array = np.empty(
            max((bucket.bytes_sent for bucket in buckets), default=0), np.uint8
        )
        self._recv: Array = np.empty(
            max((bucket.bytes_received for bucket in buckets), default=0), np.uint8
        )

    def run(self, old: Sequence[Arena], new: Sequence[Arena]) -> None:
        """Fill the new arenas; where nodes share weights, hand over afterwards.

        Collective: all ranks, in a world of both plans.
        """
        source, target = _Places(self._moves.old, old), _Places(self._moves.new, new)
        for bucket in self._moves.buckets:
            for piece in bucket.own:
                if piece.source == piece.target:
                    target.bytes_of(piece)[...] = source.bytes_of(piece)
            if bucket.is_exchanged:
                self._exchange(bucket, source, target)
        # The weights of this rank are there: what it keeps exactly starts from them.
        for bucket in self._moves.buckets:
            for piece in bucket.own:
                if piece.source is None and piece.slot == MASTER_WEIGHT:
                    target.start_master(piece)

    def _exchange(
        self, bucket: BucketMoves, source: "_Places", target: "_Places"
    ) -> None:
        size = self._comm.size
        received = sorted(
            (piece for piece in bucket.own if piece.is_copy),
            key=lambda piece: piece.source or 0,
        )
        send_counts = _count(((p.target, p) for p in bucket.sent), size)
        recv_counts = _count(((p.source or 0, p) for p in received), size)
        send = self._send[: sum(send_counts)]
        recv = self._recv[: sum(recv_counts)]
        for piece, part in _walk(bucket.sent, send):
            part[...] = source.bytes_of(piece)
        self._comm.all_to_all(send, send_counts, recv, recv_counts)
        for piece, part in _walk(received, recv):
            target.bytes_of(piece)[...] = part


class _Places:
    """Where pieces of parameters lie in one rank's arenas.

    Args:
        plan: that the arenas execute.
        arenas: in plan order.
    """

    def __init__(self, plan: Plan, arenas: Sequence[Arena]) -> None:
        self._plan, self._arenas = plan, tuple(arenas)

    def bytes_of(self, piece: Piece) -> Array:
        """Return the bytes of a piece, a view."""
        values: Array = self._values(piece)
        return values.view(np.uint8)

    def start_master(self, piece: Piece) -> None:
        """Take the weight for the exact one."""
        arena, extent = self._arena(piece)
        part = piece.interval.shift(extent.interval.start)
        part = part.shift(-arena.updated.start)
        values = arena.state[MASTER_WEIGHT][part.as_slice()]
        np.copyto(values, arena.updated_weight[part.as_slice()], casting="unsafe")

    def _values(self, piece: Piece) -> Array:
        arena, extent = self._arena(piece)
        part = piece.interval.shift(extent.interval.start)
        if piece.kind is Kind.WEIGHT:
            if arena.role.is_gathered:
                own = part.shift(-arena.role.own.start)
                return arena.updated_weight[own.as_slice()]
            return arena.weight[part.as_slice()]
        if piece.slot in arena.state:
            updated = part.shift(-arena.updated.start)
            return arena.state[piece.slot][updated.as_slice()]
        extra: Mapping[str, Array] = arena.extra_state[piece.name]
        interval = piece.interval
        if piece.slot in arena.bucket.row_slots:
            held = extent.interval.intersect(arena.updated)
            first = (held.start - extent.interval.start) // max(1, extent.row_numel)
            interval = interval.shift(-first)
        return extra[piece.slot][interval.as_slice()]

    def _arena(self, piece: Piece) -> tuple[Arena, Extent]:
        arena = self._arenas[self._plan.bucket_of(piece.name).index]
        return arena, self._plan.extent_of(piece.name)


def _count(pieces: Iterable[tuple[int, Piece]], size: int) -> list[int]:
    """Return the bytes for, or from, each rank."""
    counts = [0] * size
    for rank, piece in pieces:
        counts[rank] += piece.num_bytes
    return counts


def _walk(pieces: Sequence[Piece], buffer: Array) -> Iterable[tuple[Piece, Array]]:
    """Yield the pieces with their places in a buffer, one behind the other."""
    start = 0
    for piece in pieces:
        stop = start + piece.num_bytes
        yield piece, buffer[start:stop]
        start = stop
