import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from strategies import MESHES, plans

from parallel_params.plan.announce import Purpose
from parallel_params.plan.cost import Machine, RankClass, estimate
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.plan.spec import ParamSpec


@settings(max_examples=50)
@given(plan=plans())
def test_classes_of_ranks_say_what_every_rank_says(plan: Plan) -> None:
    classes = estimate(plan).classes
    ranks = [rank for each in classes for rank in each.ranks]
    assert ranks == list(range(plan.mesh.size))
    for each in classes:
        for rank in each.ranks:
            step = plan.collectives(rank)
            assert each.bytes_held == plan.bytes_per_rank(rank)
            assert each.bytes_sent == sum(c.bytes_sent for c in step)
            assert each.num_collectives == len(step)
            for line in each.traffic:
                same = [c for c in step if c.purpose is line.purpose]
                assert line.bytes_sent == sum(c.bytes_sent for c in same)
                assert line.num_collectives == len(same)


@settings(max_examples=50)
@given(plan=plans())
def test_the_fullest_node_is_the_fullest_of_all(plan: Plan) -> None:
    nodes = [0] * plan.mesh.num_nodes
    for rank in range(plan.mesh.size):
        nodes[plan.mesh.node(rank)] += plan.bytes_per_rank(rank).total
    assert estimate(plan).node_bytes == max(nodes)


def class_of(plan: Plan, rank: int) -> RankClass:
    (found,) = [each for each in estimate(plan).classes if rank in each.ranks]
    return found


@pytest.mark.parametrize("mesh", MESHES, ids=lambda m: f"{m}/{m.ranks_per_node}")
def test_classes_and_nodes_are_right_on_every_mesh(mesh: Mesh) -> None:
    specs = [
        adam("w", 65),
        replace(adam("own", 65), layerwise_parallel=True),
        replace(adam("own matrix", 3, 3), layerwise_parallel=True, structure="matrix"),
    ]
    plan = make_plan(specs, mesh, Policy(shard_threshold_bytes=0))
    nodes = [0] * mesh.num_nodes
    for rank in range(mesh.size):
        found = class_of(plan, rank)
        assert found.bytes_held == plan.bytes_per_rank(rank)
        assert found.bytes_sent == sum(c.bytes_sent for c in plan.collectives(rank))
        nodes[mesh.node(rank)] += found.bytes_held.total
    assert estimate(plan).node_bytes == max(nodes)


def test_the_fullest_node_may_be_one_in_the_middle() -> None:
    # Rank 0 owns nothing and the last node has two ranks: ranks 3 to 5 are fullest.
    mesh = Mesh(data=8, ranks_per_node=3)
    plan = make_plan([adam("w", 7 * 64)], mesh, Policy(shard_threshold_bytes=0))
    assert estimate(plan).node_bytes == 3 * plan.bytes_per_rank(1).total


def adam(name: str, *shape: int) -> ParamSpec:
    return ParamSpec(name, shape, state_slots=("m", "v"))


def test_bytes_of_adam_are_the_textbook_ones() -> None:
    # 16 bytes an element at level 0; 8 + 8/P at level 1 (Megatron's distributed
    # optimizer), 4 + 12/P at level 2, 16/P at level 3. Buckets in use come on top.
    plan = make_plan([adam("w", 64, 64)], Mesh(data=4), Policy(shard_threshold_bytes=0))
    numel, expected = 64 * 64, {0: 16, 1: 8 + 8 / 4, 2: 4 + 12 / 4, 3: 16 / 4}
    for level, per_element in expected.items():
        policy = replace(plan.policy, level=Level(level))
        held = make_plan(plan.params, plan.mesh, policy).bytes_per_rank(0)
        assert held.weight + held.gradient + held.state == numel * per_element
        assert held.total == held.weight + held.gradient + held.state + held.work


def test_work_buffers_are_what_buckets_in_use_need_at_their_worst() -> None:
    # Two buckets of 512 and 256 bytes over two ranks.
    specs = [adam("w", 64), adam("v", 128)]
    policy = Policy(shard_threshold_bytes=0, bucket_bytes=512, alignment=1)
    in_flight = []
    for level in Level:
        policy = replace(policy, level=level)
        plan = make_plan(specs, Mesh(data=2), policy)
        held = plan.bytes_per_rank(0)
        assert held.receive == 512  # two pieces of 256 bytes
        in_flight.append(held.in_flight)
    # Level 2: the first gradient whole, 512, is 128 more than both halves, 384.
    # Level 3: also the other half of the first weight, 256.
    assert in_flight == [0, 0, 128, 128 + 256]


def test_canonical_reduction_of_many_grains_keeps_partial_sums() -> None:
    for grains, num_partials in ((4, 1), (8, 2), (12, 2), (16, 3), (64, 5)):
        plan = make_plan([adam("w", 64)], Mesh(data=4), Policy(grains=grains))
        assert plan.num_partials == num_partials
        assert plan.bytes_per_rank(0).partials == (num_partials - 1) * 64 * 4
        fast = replace(plan.policy, reduction="fast")
        assert make_plan(plan.params, plan.mesh, fast).num_partials == 1


def test_the_collectives_of_a_step_come_bucket_by_bucket() -> None:
    policy = Policy(shard_threshold_bytes=600, bucket_bytes=1024)
    specs = [adam("w", 256), adam("b", 8), adam("v", 256)]
    plan = make_plan(specs, Mesh(data=2), policy)
    names = [
        (
            c.purpose,
            None if c.bucket is None else plan.buckets[c.bucket].extents[0].name,
        )
        for c in plan.collectives(0)
    ]
    assert names == [
        (Purpose.STATUS, None),
        (Purpose.REDUCE_GRADIENT, "v"),
        (Purpose.GATHER_WEIGHT, "v"),
        (Purpose.REDUCE_GRADIENT, "b"),
        (Purpose.GATHER_GRADIENT, "b"),
        (Purpose.REDUCE_GRADIENT, "w"),
        (Purpose.GATHER_WEIGHT, "w"),
    ]


def test_level_3_gathers_weights_for_every_pass_of_every_grain() -> None:
    policy = Policy(level=Level.WEIGHT, shard_threshold_bytes=0, grains=6)
    frozen = replace(adam("f", 8), requires_grad=False)
    plan = make_plan([adam("w", 8), frozen], Mesh(data=2), policy)
    purposes = [(c.purpose, c.bucket) for c in plan.collectives(0)]
    gather, forward, backward = Purpose.GATHER_WEIGHT, [1, 0], [0, 1]
    one_grain = [(gather, bucket) for bucket in forward + backward]
    assert purposes == [
        *one_grain * 2,
        *((gather, bucket) for bucket in forward),
        (Purpose.STATUS, None),
        (gather, 0),
        (Purpose.REDUCE_GRADIENT, 0),
        (gather, 1),
    ]


def test_norms_of_parameters_travel_in_one_message_before_the_weights() -> None:
    policy = Policy(shard_threshold_bytes=0, bucket_bytes=32)
    specs = [replace(adam(name, 8), structure="tensor_scalar") for name in "abc"]
    plan = make_plan(specs, Mesh(data=3), policy)
    (shared,) = [c for c in plan.collectives(1) if c.purpose is Purpose.SHARE_SCALARS]
    assert shared.bytes_sent == 3 * 16 * 2
    purposes = [c.purpose for c in plan.collectives(1)]
    assert purposes[-4:] == [Purpose.SHARE_SCALARS, *[Purpose.GATHER_WEIGHT] * 3]
    whole = make_plan(specs, Mesh(data=3), replace(policy, level=Level.NOTHING))
    assert Purpose.SHARE_SCALARS not in [c.purpose for c in whole.collectives(1)]


def test_seconds_follow_latency_and_bandwidth_of_the_slower_link() -> None:
    machine = Machine(
        node_latency_s=1.0,
        node_bytes_per_s=16.0,
        network_latency_s=100.0,
        network_bytes_per_s=16.0,
    )
    near, far = (
        estimate(
            make_plan([], Mesh(data=4, ranks_per_node=per_node), Policy()),
            machine=machine,
        ).slowest
        for per_node in (4, 2)
    )
    # 16 bytes to each of three others in two rounds; two ranks share the network.
    assert near.seconds == pytest.approx(2 * 1.0 + 48 / 16)
    assert far.seconds == pytest.approx(2 * 100.0 + 48 / 8)


def test_a_hundred_thousand_ranks_cost_no_more_than_eight() -> None:
    specs = [
        adam(f"{layer}.{name}", *shape)
        for layer in range(12)
        for name, shape in (("up", (768, 3072)), ("down", (3072, 768)), ("b", (768,)))
    ]
    policy = Policy(level=Level.GRADIENT)
    plan = make_plan(specs, Mesh(data=100_000, ranks_per_node=64), policy)
    start = time.perf_counter()
    costs = estimate(plan)
    assert time.perf_counter() - start < 1.0
    assert len(costs.classes) <= 8
    assert costs.classes[-1].ranks[-1] == 99_999
