"""What one rank does when its world leaves a plan for another, and what that costs.

The runtime executes this object, so the bytes announced here are the bytes sent.
Nothing is moved here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from parallel_params.plan.bucket import Bucket
from parallel_params.plan.memory import RankBytes
from parallel_params.plan.pieces import Piece, check_same_parameter, pieces_of_bucket
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind
from parallel_params.plan.text import format_bytes, name_some, plural


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketMoves:
    """One rank's part in filling one bucket of the new plan.

    Attributes:
        bucket: Its index in the new plan.
        own: What the rank holds afterwards, wherever it is now.
        sent: What others take from it, by target.
        is_exchanged: Whether any rank takes anything from another one.
    """

    bucket: int
    own: tuple[Piece, ...]
    sent: tuple[Piece, ...]
    is_exchanged: bool

    @property
    def bytes_sent(self) -> int:
        """Bytes that the rank sends."""
        return sum(piece.num_bytes for piece in self.sent)

    @property
    def bytes_received(self) -> int:
        """Bytes that the rank receives."""
        return sum(piece.num_bytes for piece in self.own if piece.is_copy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """How one rank gets from one plan to another.

    Attributes:
        old: The plan that is left.
        new: The plan that follows.
        rank: Whose moves these are.
        buckets: Bucket by bucket of the new plan.
        bytes_moved: Bytes that travel between all ranks.
        frozen: Parameters that are not trained any more: their state is dropped.
        started: Parameters that are trained from now on: their state starts from zero,
            and a master weight from the weight.
        note: What the user should know beside that; empty if nothing.
    """

    old: Plan
    new: Plan
    rank: int
    buckets: tuple[BucketMoves, ...]
    bytes_moved: int
    frozen: tuple[str, ...]
    started: tuple[str, ...]
    note: str = ""

    @property
    def bytes_sent(self) -> int:
        """Bytes that the rank sends."""
        return sum(bucket.bytes_sent for bucket in self.buckets)

    @property
    def work_bytes(self) -> int:
        """Bytes of the buffers that the rank needs on the way, beside both plans'."""
        return max((b.bytes_sent + b.bytes_received for b in self.buckets), default=0)

    @property
    def held(self) -> tuple[RankBytes, RankBytes]:
        """What the rank holds before and afterwards; in between it holds both."""
        return self.old.bytes_per_rank(self.rank), self.new.bytes_per_rank(self.rank)

    @property
    def dropped_bytes(self) -> int:
        """Bytes of optimizer state that the rank drops with the frozen parameters."""
        frozen = set(self.frozen)
        return sum(
            piece.num_bytes
            for bucket in self.old.buckets
            for piece in pieces_of_bucket(self.old, self.old, bucket, self.rank)
            if piece.kind is Kind.STATE and piece.name in frozen
        )

    def __str__(self) -> str:
        old, new = self.old, self.new
        before, after = self.held
        lines = [
            f"plan {old.digest[:12]}, level {int(old.policy.level)} -> "
            f"{new.digest[:12]}, level {int(new.policy.level)}",
            f"  {format_bytes(self.bytes_moved)} moved between ranks, "
            f"{format_bytes(self.bytes_sent)} of it from rank {self.rank}",
            f"  rank {self.rank} held {format_bytes(before.total)}, holds "
            f"{format_bytes(after.total)}; both, and {format_bytes(self.work_bytes)} "
            "of buffers, while they moved",
        ]
        if self.frozen:
            lines.append(
                f"  {plural(len(self.frozen), 'parameter')} frozen: "
                f"{name_some(self.frozen)}; rank {self.rank} dropped "
                f"{format_bytes(self.dropped_bytes)} of state"
            )
        if self.started:
            lines.append(
                f"  {plural(len(self.started), 'parameter')} trained from now on: "
                f"{name_some(self.started)}; the state starts from zero"
            )
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])


def find_moves(old: Plan, new: Plan, rank: int, *, note: str = "") -> Moves:
    """Return what a rank does when a world of both plans' size goes over to `new`.

    In time of the number of ranks for buckets that change: who is to send is told by
    who needs. Of a bucket that stays as it is nobody needs anything.

    Args:
        old: The plan that is left.
        new: The plan that follows, of the same parameters and as many ranks.
        rank: Whose moves are wanted.
        note: What the user should know.

    Raises:
        PlanError: values cannot be moved, see `transfer`.
    """
    buckets, bytes_moved = [], 0
    for bucket in new.buckets:
        own: list[Piece] = []
        sent: list[Piece] = []
        num_bytes = 0
        targets = (rank,) if _is_kept(old, new, bucket) else range(new.mesh.size)
        for target in targets:
            pieces = [*pieces_of_bucket(old, new, bucket, target, is_live=True)]
            num_bytes += sum(piece.num_bytes for piece in pieces if piece.is_copy)
            if target == rank:
                own = pieces
            else:
                sent += [piece for piece in pieces if piece.source == rank]
        buckets.append(
            BucketMoves(
                bucket=bucket.index,
                own=tuple(own),
                sent=tuple(sent),
                is_exchanged=num_bytes > 0,
            )
        )
        bytes_moved += num_bytes
    return Moves(
        old=old,
        new=new,
        rank=rank,
        buckets=tuple(buckets),
        bytes_moved=bytes_moved,
        frozen=tuple(_trained_in_first_only(old, new)),
        started=tuple(_trained_in_first_only(new, old)),
        note=note,
    )


def check_moves(old: Plan, new: Plan) -> None:
    """Raise what `find_moves` would for any rank, without finding them.

    Raises:
        PlanError: values cannot be moved, see `transfer`.
    """
    for spec in new.params:
        check_same_parameter(old, new, spec.name)


def _is_kept(old: Plan, new: Plan, bucket: Bucket) -> bool:
    """Tell whether all ranks hold all of a bucket already, at the same places."""
    is_same_world = old.mesh == new.mesh and (
        old.policy.alignment,
        old.policy.transport,
    ) == (new.policy.alignment, new.policy.transport)
    before = old.bucket_of(bucket.extents[0].name)
    return is_same_world and replace(before, index=bucket.index) == bucket


def _trained_in_first_only(first: Plan, second: Plan) -> Iterator[str]:
    for spec in first.params:
        is_trained: Sequence[bool] = [
            plan.bucket_of(spec.name).is_trainable for plan in (first, second)
        ]
        if is_trained == [True, False]:
            yield spec.name
