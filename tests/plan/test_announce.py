"""The collectives of a step, one by one, as the runtime has to issue them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hypothesis import given, settings
from strategies import plans

from parallel_params.plan.announce import Collective, Purpose
from parallel_params.plan.bucket import Bucket
from parallel_params.plan.guards import Clip
from parallel_params.plan.interval import Interval
from parallel_params.plan.leaves import leaf_range, num_leaves
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.plan.spec import ITEM_BYTES, ParamSpec

# Half of the usual number: a law here looks at every rank, bucket and kind of a plan.
laws = settings(max_examples=50)

Line = tuple[str, int | None, tuple[int, ...], int]  # kind, bucket, group, bytes sent


@dataclass(frozen=True)
class Expected:
    """One step of one rank, told from the intervals of all ranks, one by one."""

    plan: Plan
    rank: int

    def step(self) -> Iterator[Line]:
        plan = self.plan
        buckets = plan.buckets
        for _ in range(plan.grains_per_rank - 1):
            for bucket in (*reversed(buckets), *buckets):
                yield from self.gather(bucket)
        for bucket in reversed(buckets):
            yield from self.gather(bucket)
        for bucket in buckets:
            yield from self.gather(bucket)
            if plan.is_streamed(bucket):
                yield from self.hand_over([bucket], bucket.index)
                yield from self.reduce(bucket)
        yield from self.world(24, 0)
        followed = [spec for spec in plan.params if spec.is_statistic]
        if followed:
            yield from self.world(0, sum(spec.numel + 1 for spec in followed))
        late = [b for b in buckets if b.is_trainable and not plan.is_streamed(b)]
        whole = [b for b in late if b.level is Level.NOTHING]
        yield from self.hand_over(late, None)
        # Reduced buckets are gathered when the next one is on its way.
        for i, each in enumerate([*late, None]):
            yield from self.reduce(each) if each is not None else ()
            yield from self.across(late[i - 1]) if i and late[i - 1] in whole else ()
        yield from self.verdict()
        yield from self.hand_over(whole, None)
        yield from self.rounds()
        cut = [b for b in buckets if b.is_trainable and b.level > Level.NOTHING]
        published = [b for b in cut if not self.is_gathered(b)]
        for bucket in published:
            yield from self.across(bucket)
        yield from self.hand_over(published, None)
        yield from self.hand_over([plan.bucket_of(s.name) for s in followed], None)

    def is_gathered(self, bucket: Bucket) -> bool:
        num_nodes = len(self.plan.cross_group(bucket, self.rank))
        return bucket.level is Level.WEIGHT and num_nodes > 1

    def gather(self, bucket: Bucket) -> Iterator[Line]:
        if self.is_gathered(bucket):
            yield from self.across(bucket)
            yield from self.hand_over([bucket], bucket.index)

    def across(self, bucket: Bucket) -> Iterator[Line]:
        group = self.plan.cross_group(bucket, self.rank)
        own = self.plan.owned(bucket, self.rank).numel * ITEM_BYTES[bucket.dtype]
        if len(group) > 1:
            yield "all_gather", bucket.index, group, own * (len(group) - 1)

    def reduce(self, bucket: Bucket) -> Iterator[Line]:
        plan = self.plan
        group = plan.cross_group(bucket, self.rank)
        item = ITEM_BYTES[bucket.dtype]
        if plan.policy.wire_dtype:
            item = min(item, 2)
        others = [plan.owned(bucket, r).numel for r in group if r != self.rank]
        kind = "all_to_all" if plan.policy.reduction == "canonical" else ""
        if others:
            yield kind or "reduce_scatter", bucket.index, group, item * sum(others)

    def hand_over(self, buckets: list[Bucket], index: int | None) -> Iterator[Line]:
        plan = self.plan
        if any(len(plan.local_group(bucket, self.rank)) > 1 for bucket in buckets):
            yield "hand_over", index, plan.node_group(self.rank), 0

    def world(self, num_bytes: int, num_nodes: int) -> Iterator[Line]:
        world = tuple(range(self.plan.mesh.size))
        if len(world) > 1:
            sent = (num_bytes + 8 * num_nodes) * (len(world) - 1)
            yield "all_gather", None, world, sent

    def verdict(self) -> Iterator[Line]:
        plan, number = self.plan, 0
        clip = plan.policy.clip
        if clip is not None and clip.norm is not None:
            number = sum(self.num_nodes(b) for b in plan.buckets if b.is_trainable)
        scale = plan.policy.scaling
        is_dynamic = scale is not None and scale.is_dynamic
        if clip or plan.policy.non_finite != "ignore" or is_dynamic:
            yield from self.world(24, number)

    def rounds(self) -> Iterator[Line]:
        cut = [b for b in self.plan.buckets if b.is_updated_in_parts]
        for number in range(9):
            sharing = [b for b in cut if len(b.rounds) > number]
            for group in dict.fromkeys(self.plan.group(b, self.rank) for b in sharing):
                numbers = sum(
                    self.num_nodes(b) * b.rounds[number]
                    for b in sharing
                    if self.plan.group(b, self.rank) == group
                )
                if len(group) > 1:
                    yield "all_gather", None, group, 8 * numbers * (len(group) - 1)

    def num_nodes(self, bucket: Bucket) -> int:
        own, alignment = self.plan.owned(bucket, self.rank), self.plan.policy.alignment
        number = 0
        for extent in bucket.extents:
            part = extent.interval.intersect(own)
            leaves = leaf_range(bucket, extent, part, alignment)
            whole = num_leaves(bucket, extent, alignment)
            number += count_subtrees(
                0, 1 << max(0, whole - 1).bit_length(), leaves, whole
            )
        return number


def count_subtrees(start: int, stop: int, own: range, num_leaves: int) -> int:
    """Count the largest subtrees of [start, stop) whose leaves are all own."""
    leaves = range(start, min(stop, num_leaves))
    if not any(leaf in own for leaf in leaves):
        return 0
    if all(leaf in own for leaf in leaves):
        return 1
    middle = (start + stop) // 2
    return count_subtrees(start, middle, own, num_leaves) + count_subtrees(
        middle, stop, own, num_leaves
    )


def lines(collectives: tuple[Collective, ...]) -> list[Line]:
    return [(c.kind, c.bucket, c.group, c.bytes_sent) for c in collectives]


@laws
@given(plan=plans())
def test_announced_is_every_collective_in_order_with_its_bytes(plan: Plan) -> None:
    for rank in range(plan.mesh.size):
        expected = [*Expected(plan, rank).step()]
        # Groups of different buckets may be different tuples of the same single rank.
        assert lines(plan.collectives(rank)) == expected


@laws
@given(plan=plans())
def test_a_group_of_one_announces_no_communication(plan: Plan) -> None:
    for rank in range(plan.mesh.size):
        for collective in plan.collectives(rank):
            assert len(collective.group) > 1
            assert rank in collective.group


@laws
@given(plan=plans())
def test_what_is_sent_is_received(plan: Plan) -> None:
    steps = [plan.collectives(rank) for rank in range(plan.mesh.size)]
    assert sum(c.bytes_sent for step in steps for c in step) == sum(
        c.bytes_received for step in steps for c in step
    )


@laws
@given(plan=plans())
def test_all_ranks_of_a_group_issue_its_collectives_in_one_order(plan: Plan) -> None:
    steps = [plan.collectives(rank) for rank in range(plan.mesh.size)]
    for rank, step in enumerate(steps):
        for group in {collective.group for collective in step}:
            for other in group:
                assert [
                    (c.kind, c.purpose, c.bucket) for c in step if c.group == group
                ] == [
                    (c.kind, c.purpose, c.bucket)
                    for c in steps[other]
                    if c.group == group
                ], (rank, other)


def adam(name: str, *shape: int) -> ParamSpec:
    return ParamSpec(name, shape, state_slots=("m", "v"))


NODES = Mesh(data=4, ranks_per_node=2)
QUIET = Policy(shard_threshold_bytes=0, alignment=1, non_finite="ignore")


def purposes(plan: Plan, rank: int = 0) -> list[tuple[Purpose, int | None]]:
    return [(c.purpose, c.bucket) for c in plan.collectives(rank)]


def test_a_step_at_level_1_on_two_nodes() -> None:
    specs = [adam("w", 32), replace(adam("b", 32), parallel_optimizer=False)]
    plan = make_plan(specs, NODES, replace(QUIET, non_finite="raise"))
    assert [bucket.extents[0].name for bucket in plan.buckets] == ["b", "w"]
    assert purposes(plan) == [
        (Purpose.STATUS, None),
        (Purpose.HAND_OVER, None),
        (Purpose.REDUCE_GRADIENT, 0),
        (Purpose.REDUCE_GRADIENT, 1),
        (Purpose.GATHER_GRADIENT, 0),
        (Purpose.VERDICT, None),
        (Purpose.HAND_OVER, None),
        (Purpose.GATHER_WEIGHT, 1),
        (Purpose.HAND_OVER, None),
    ]


def test_a_step_on_one_node_sends_no_weight_and_no_gradient() -> None:
    for level in Level:
        plan = make_plan([adam("w", 32)], Mesh(data=4), replace(QUIET, level=level))
        assert {kind for kind, *_ in lines(plan.collectives(0))} == {
            "all_gather",
            "hand_over",
        }
        sent = [c for c in plan.collectives(0) if c.bytes_sent]
        assert [c.purpose for c in sent] == [Purpose.STATUS]


def test_streamed_gradients_are_reduced_before_the_status() -> None:
    specs = [adam("v", 32), adam("w", 32)]
    policy = replace(QUIET, level=Level.GRADIENT, bucket_bytes=128)
    plan = make_plan(specs, NODES, policy)
    assert purposes(plan) == [
        (Purpose.HAND_OVER, 0),
        (Purpose.REDUCE_GRADIENT, 0),
        (Purpose.HAND_OVER, 1),
        (Purpose.REDUCE_GRADIENT, 1),
        (Purpose.STATUS, None),
        (Purpose.GATHER_WEIGHT, 0),
        (Purpose.GATHER_WEIGHT, 1),
        (Purpose.HAND_OVER, None),
    ]


def test_level_3_gathers_weights_for_every_pass_of_every_grain() -> None:
    policy = replace(QUIET, level=Level.WEIGHT, grains=6, transport="messages")
    frozen = replace(adam("f", 8), requires_grad=False)
    plan = make_plan([adam("w", 8), frozen], Mesh(data=2), policy)
    gather, forward, backward = Purpose.GATHER_WEIGHT, [1, 0], [0, 1]
    one_grain = [(gather, bucket) for bucket in forward + backward]
    assert purposes(plan) == [
        *one_grain * 2,
        *((gather, bucket) for bucket in forward),
        (gather, 0),
        (Purpose.REDUCE_GRADIENT, 0),
        (gather, 1),
        (Purpose.STATUS, None),
    ]


def test_sums_over_parameters_travel_in_one_message_a_round() -> None:
    policy = replace(QUIET, bucket_bytes=32)
    specs = [
        replace(adam(name, 8), structure="tensor_scalar", rounds=rounds)
        for name, rounds in (("a", (2,)), ("b", (2, 1)), ("c", (2,)))
    ]
    plan = make_plan(specs, Mesh(data=4), policy)
    first, second = (c for c in plan.collectives(1) if c.purpose is Purpose.SHARE_SUMS)
    # A rank owns a quarter of each parameter, two of its eight leaves: a subtree.
    assert first.bytes_sent == 3 * 2 * 8 * 3
    assert second.bytes_sent == 1 * 1 * 8 * 3
    whole = make_plan(specs, Mesh(data=4), replace(policy, level=Level.NOTHING))
    assert Purpose.SHARE_SUMS not in [c.purpose for c in whole.collectives(1)]


def test_a_bound_on_the_norm_adds_a_number_per_subtree_to_the_verdict() -> None:
    policy = replace(QUIET, clip=Clip(norm=1.0))
    plan = make_plan([adam("w", 9)], Mesh(data=3), policy)
    sent = [
        next(c for c in plan.collectives(rank) if c.purpose is Purpose.VERDICT)
        for rank in range(3)
    ]
    # Subtrees of three owned leaves each: [0 1] [2], [3] [4 5], [6 7] [8].
    assert plan.intervals(plan.buckets[0]) == tuple(
        Interval(3 * rank, 3 * rank + 3) for rank in range(3)
    )
    assert [c.bytes_sent for c in sent] == [(24 + 8 * 2) * 2] * 3
    by_value = replace(policy, clip=Clip(value=1.0))
    told = make_plan([adam("w", 9)], Mesh(data=3), by_value).collectives(0)
    assert [c.bytes_sent for c in told if c.purpose is Purpose.VERDICT] == [24 * 2]


def test_gradients_of_more_bytes_travel_as_the_wire_dtype() -> None:
    for dtype, ratio in (("float64", 4), ("float32", 2), ("bfloat16", 1)):
        spec = ParamSpec("w", (32,), dtype)
        plain = replace(QUIET, transport="messages")
        sent = [
            next(
                c.bytes_sent
                for c in make_plan([spec], Mesh(data=4), policy).collectives(0)
                if c.purpose is Purpose.REDUCE_GRADIENT
            )
            for policy in (plain, replace(plain, wire_dtype="float16"))
        ]
        assert sent[0] == ratio * sent[1]
