"""The difference of two plans as a list of copies.

Resharding and resuming at another world size read this list, and `moves.py` shortens it
for a world that goes on. It moves no byte.
"""

from collections import defaultdict
from dataclasses import dataclass

from parallel_params.errors import PlanError
from parallel_params.plan.pieces import Piece, cut_piece, pieces_of_rank
from parallel_params.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Pieces that cover every element of the new plan's weights and state once.

    They are ordered by target, then by bucket of the new plan.
    """

    pieces: tuple[Piece, ...]

    @property
    def copies(self) -> tuple[Piece, ...]:
        """The pieces that travel."""
        return tuple(piece for piece in self.pieces if piece.is_copy)

    @property
    def bytes_moved(self) -> int:
        """Bytes that travel between ranks."""
        return sum(piece.num_bytes for piece in self.copies)

    def then(self, second: "Transfer") -> "Transfer":
        """Return the one transfer that does this one and then `second`.

        Raises:
            PlanError: `second` starts from a plan that this transfer does not lead to.
        """
        by_place: dict[object, list[Piece]] = defaultdict(list)
        for piece in self.pieces:
            by_place[piece.target, piece.name, piece.kind, piece.slot].append(piece)
        pieces: list[Piece] = []
        for piece in second.pieces:
            place = (piece.source, piece.name, piece.kind, piece.slot)
            earlier = by_place[place] if piece.source is not None else [piece]
            parts = [
                cut_piece(
                    piece, piece.interval.intersect(origin.interval), origin.source
                )
                for origin in earlier
            ]
            if sum(part.interval.numel for part in parts) != piece.interval.numel:
                raise PlanError(
                    f"the transfers do not follow each other: rank {piece.source} has "
                    f"no elements {piece.interval} of {piece.name!r} in between"
                )
            pieces += [part for part in parts if not part.interval.is_empty]
        return Transfer(pieces=tuple(pieces))


def transfer(old: Plan, new: Plan) -> Transfer:
    """Return what each rank of `new` takes from which rank of `old`.

    Raises:
        PlanError: a parameter of `new` is missing in `old`, has another shape or dtype,
            or is layerwise-parallel in another number of slices: only what had one
            value for all may get several.
    """
    return Transfer(
        pieces=tuple(
            piece
            for rank in range(new.mesh.size)
            for piece in pieces_of_rank(old, new, rank)
        )
    )
