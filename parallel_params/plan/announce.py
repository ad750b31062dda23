"""The collectives of one step, in order, with the bytes that each rank sends.

Announces; it sends nothing. The sequence is the contract between the plan and the
runtime, so both the estimate and the ledger's test read it here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from parallel_params.plan.bucket import Bucket
from parallel_params.plan.policy import Kind

if TYPE_CHECKING:
    from parallel_params.plan.plan import Plan

CollectiveKind = Literal["all_gather", "all_to_all", "reduce_scatter"]

STATUS_BYTES = 16
"""What every rank tells the world before the buckets: loss partial and failure flag."""

SCALARS_BYTES = 16
"""Two float64 of one `tensor_scalar` parameter: its weight's and its update's norm."""


class Purpose(Enum):
    """Why a collective is issued."""

    STATUS = "tell loss and failures"
    REDUCE_GRADIENT = "reduce gradients"
    GATHER_GRADIENT = "gather reduced gradients"
    SHARE_SCALARS = "share norms of parameters"
    GATHER_WEIGHT = "gather weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One collective as one rank sees it.

    Attributes:
        kind: The MPI operation.
        purpose: Why it is issued.
        bucket: Index of the bucket, None for what belongs to no bucket.
        axes: Mesh axes of the group.
        bytes_sent: By this rank, by the closed formula of the operation.
        bytes_received: By this rank; over a group both sums are equal.
    """

    kind: CollectiveKind
    purpose: Purpose
    bucket: int | None
    axes: tuple[str, ...]
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One collective of a step with its group of ranks, in mesh order."""

    kind: CollectiveKind
    purpose: Purpose
    bucket: int | None
    group: tuple[int, ...]
    bytes_sent: int
    bytes_received: int


def announce_step(plan: "Plan", rank: int) -> Iterator[tuple[int, list[Message]]]:
    """Yield the stages of one step: how often each is run, and its messages in order.

    At level 3 every grain gathers the weights for its forward and again for its
    backward pass, so all grains of a rank but the last are one stage run many times.
    Behind the last one each bucket is reduced, updated and given back in turn, except
    that rules with norms of parameters wait for those of all buckets.
    """
    step = _Step(plan, rank)
    forward = [message for b in reversed(plan.buckets) for message in step.unshard(b)]
    backward = [message for b in plan.buckets for message in step.unshard(b)]
    yield plan.grains_per_rank - 1, forward + backward
    yield 1, forward + step.status()
    exchange: list[Message] = []
    waiting: list[Bucket] = []
    for bucket in plan.buckets:
        exchange += step.unshard(bucket) + step.reduce(bucket)
        if bucket.structure == "tensor_scalar":
            waiting.append(bucket)
        else:
            exchange += step.give_back(bucket)
    yield 1, exchange
    yield 1, step.share_scalars(waiting)
    yield 1, [message for b in waiting for message in step.give_back(b)]


class _Step:
    """The closed formula of each collective, for one rank of one plan."""

    def __init__(self, plan: "Plan", rank: int) -> None:
        self._plan = plan
        self._rank = rank

    def status(self) -> list[Message]:
        axes = self._plan.mesh.axes
        return self._all_gather_equal(Purpose.STATUS, axes, num_bytes=STATUS_BYTES)

    def unshard(self, bucket: Bucket) -> list[Message]:
        """Gather weights for use, where the level cuts them."""
        if not bucket.level.cuts(Kind.WEIGHT):
            return []
        return self._all_gather(Purpose.GATHER_WEIGHT, bucket)

    def reduce(self, bucket: Bucket) -> list[Message]:
        """Bring the sum of all gradients to the owners; to all, if kept whole."""
        num_others = self._plan.group_size(bucket) - 1
        if not bucket.is_trainable or not num_others:
            return []
        own = self._plan.owned(bucket, self._rank)
        is_canonical = self._plan.policy.reduction == "canonical"
        reduced = Message(
            kind="all_to_all" if is_canonical else "reduce_scatter",
            purpose=Purpose.REDUCE_GRADIENT,
            bucket=bucket.index,
            axes=bucket.axes,
            bytes_sent=bucket.item_bytes * (bucket.numel - own.numel),
            bytes_received=bucket.item_bytes * own.numel * num_others,
        )
        if bucket.is_sharded:
            return [reduced]
        return [reduced, *self._all_gather(Purpose.GATHER_GRADIENT, bucket)]

    def share_scalars(self, buckets: list[Bucket]) -> list[Message]:
        """Share the norms of parameters that are cut, in one message per group."""
        num_parameters: dict[tuple[str, ...], int] = {}
        for bucket in buckets:
            if bucket.is_updated_in_parts:
                known = num_parameters.get(bucket.axes, 0)
                num_parameters[bucket.axes] = known + len(bucket.extents)
        return [
            message
            for axes, number in num_parameters.items()
            for message in self._all_gather_equal(
                Purpose.SHARE_SCALARS, axes, num_bytes=number * SCALARS_BYTES
            )
        ]

    def give_back(self, bucket: Bucket) -> list[Message]:
        """Gather weights after the update, where only their owners have them."""
        if not bucket.is_updated_in_parts or bucket.level.cuts(Kind.WEIGHT):
            return []
        return self._all_gather(Purpose.GATHER_WEIGHT, bucket)

    def _all_gather(self, purpose: Purpose, bucket: Bucket) -> list[Message]:
        num_others = self._plan.group_size(bucket) - 1
        own = self._plan.owned(bucket, self._rank)
        message = Message(
            kind="all_gather",
            purpose=purpose,
            bucket=bucket.index,
            axes=bucket.axes,
            bytes_sent=bucket.item_bytes * own.numel * num_others,
            bytes_received=bucket.item_bytes * (bucket.numel - own.numel),
        )
        return [message] if num_others else []

    def _all_gather_equal(
        self, purpose: Purpose, axes: tuple[str, ...], *, num_bytes: int
    ) -> list[Message]:
        num_others = self._plan.mesh.group_size(axes) - 1
        message = Message(
            kind="all_gather",
            purpose=purpose,
            bucket=None,
            axes=axes,
            bytes_sent=num_bytes * num_others,
            bytes_received=num_bytes * num_others,
        )
        return [message] if num_others else []
