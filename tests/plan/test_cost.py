import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from strategies import MESHES, plans

from parallel_params.plan.announce import Purpose
from parallel_params.plan.cost import Estimate, Machine, RankClass, estimate
from parallel_params.plan.guards import Clip
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Kind, Level, Policy
from parallel_params.plan.spec import ParamSpec, Structure

# Their bytes depend on where a rank's part lies among the leaves of a parameter.
SUMS = (Purpose.VERDICT, Purpose.SHARE_SUMS)


@settings(max_examples=50)
@given(plan=plans())
def test_classes_of_ranks_say_what_every_rank_says(plan: Plan) -> None:
    classes = estimate(plan).classes
    ranks = [rank for each in classes for rank in each.ranks]
    assert sorted(ranks) == list(range(plan.mesh.size))
    for each in classes:
        assert each.num_ranks == len([*each.ranks])
        for index, rank in enumerate(each.ranks):
            step = plan.collectives(rank)
            assert each.bytes_held == plan.bytes_per_rank(rank)
            assert each.num_collectives == len(step)
            for line in each.traffic:
                same = [c for c in step if c.purpose is line.purpose]
                assert line.num_collectives == len(same)
                if index == 0 or line.purpose not in SUMS:
                    assert line.bytes_sent == sum(c.bytes_sent for c in same)
            if index == 0:
                assert each.bytes_sent == sum(c.bytes_sent for c in step)


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
        replace(adam("rows", 9, 5), structure="row"),
    ]
    policy = Policy(shard_threshold_bytes=0, alignment=4, clip=None)
    plan = make_plan(specs, mesh, policy)
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
    policy = Policy(shard_threshold_bytes=0, alignment=64)
    plan = make_plan([adam("w", 7 * 64)], mesh, policy)
    assert estimate(plan).node_bytes == 3 * plan.bytes_per_rank(1).total


def adam(name: str, *shape: int) -> ParamSpec:
    return ParamSpec(name, shape, state_slots=("m", "v"))


MESSAGES = Policy(shard_threshold_bytes=0, alignment=1, transport="messages")
WINDOW = replace(MESSAGES, transport="window")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        # 16 bytes an element at level 0; 8 + 8/P at level 1 (Megatron's distributed
        # optimizer), 4 + 12/P at level 2, 16/P at level 3. Work buffers come on top.
        (MESSAGES, {0: 16, 1: 8 + 8 / 4, 2: 4 + 12 / 4, 3: 16 / 4}),
        # One copy of the weights per node, unless every rank updates its own.
        (WINDOW, {0: 16, 1: 4 / 4 + 4 + 8 / 4, 2: 16 / 4, 3: 16 / 4}),
    ],
)
def test_bytes_of_adam_are_the_textbook_ones(
    policy: Policy, expected: dict[int, float]
) -> None:
    numel = 64 * 64
    for level, per_element in expected.items():
        at_level = replace(policy, level=Level(level))
        plan = make_plan([adam("w", 64, 64)], Mesh(data=4), at_level)
        held = plan.bytes_per_rank(0)
        assert held.weight + held.gradient + held.state == numel * per_element
        assert held.total == held.weight + held.gradient + held.state + held.work
        assert held.work == (
            held.partials + held.send + held.receive + held.reduced + held.in_flight
        )


def work_bytes(plan: Plan) -> tuple[int, int, int, int]:
    held = plan.bytes_per_rank(0)
    return held.send, held.receive, held.reduced, held.in_flight


def test_work_buffers_are_what_buckets_in_use_need() -> None:
    # Three buckets of 256, 512 and 256 bytes, the latter updated whole by everybody.
    specs = [
        adam("w", 64),
        adam("v", 128),
        replace(adam("b", 64), parallel_optimizer=False),
    ]
    # Two slots of the largest streamed bucket; at level 3 also two weights.
    in_flight = [0, 0, 2 * 512, 2 * 512 + 768]
    for level in Level:
        policy = replace(MESSAGES, level=level, bucket_bytes=512)
        # Two flights, each with two pieces of half of the largest bucket, which itself
        # lies there ready to be sent.
        plan = make_plan(specs, Mesh(data=2), policy)
        assert work_bytes(plan) == (0, 2 * 2 * 256, 0, in_flight[level])
        # One node: no message, but the sum of what is updated whole is shared.
        node = make_plan(specs, Mesh(data=2), replace(policy, transport="window"))
        is_whole = level is Level.NOTHING
        reduced = 1024 // 2 if is_whole else 256 // 2
        slots = 2 * 512 if level >= Level.GRADIENT else 0
        assert work_bytes(node) == (0, 0, reduced, slots)


def test_lanes_are_put_together_to_be_sent_between_nodes() -> None:
    policy = replace(WINDOW, level=Level.WEIGHT)
    mesh = Mesh(data=8, ranks_per_node=4)
    plan = make_plan([adam("w", 128), adam("v", 64)], mesh, policy)
    # One bucket of 768 bytes: the lane is a quarter of it, a rank owns an eighth; two
    # pieces are received; twice, for two flights. Slots are whole, live weights are a
    # lane of the node's.
    assert work_bytes(plan) == (2 * 192, 2 * 2 * 96, 0, 2 * 768 + 192)
    frozen = replace(adam("f", 128), requires_grad=False)
    alone = make_plan([frozen], mesh, policy)
    assert work_bytes(alone) == (2 * 128, 0, 0, 128)
    unsent = make_plan([frozen], mesh, replace(policy, level=Level.GRADIENT))
    assert work_bytes(unsent) == (0, 0, 0, 0)
    assert unsent.bytes_per_rank(0).weight == 512 // 4


def test_a_narrow_wire_needs_room_for_what_it_carries() -> None:
    plan = make_plan(
        [adam("w", 128)], Mesh(data=4), replace(MESSAGES, wire_dtype="bfloat16")
    )
    assert work_bytes(plan) == (2 * 128 * 2, 2 * 4 * 32 * 2, 0, 0)
    frozen = replace(adam("f", 128), requires_grad=False)
    assert work_bytes(make_plan([frozen], Mesh(data=4), plan.policy)) == (0, 0, 0, 0)


def test_fast_reduction_receives_the_sum_alone() -> None:
    plan = make_plan(
        [adam("w", 128)], Mesh(data=4), replace(MESSAGES, reduction="fast")
    )
    assert work_bytes(plan) == (0, 2 * 32 * 4, 0, 0)


def test_states_per_row_and_of_a_row_follow_the_parts() -> None:
    spec = ParamSpec(
        "w",
        (8, 16),
        "bfloat16",
        structure="row",
        state_slots=("m",),
        row_slots=("r",),
        column_slots=("c",),
    )
    plan = make_plan([spec, ParamSpec("b", (0,))], Mesh(data=4), MESSAGES)
    # A quarter of m and of the master weight, two of the rows, all of the columns.
    held = plan.bytes_per_rank(0)
    assert held.state == 4 * (2 * 2 * 16 + 2 + 16)
    whole = replace(spec, parallel_optimizer=False)
    held = make_plan([whole], Mesh(data=4), MESSAGES).bytes_per_rank(0)
    assert held.state == 4 * (2 * 8 * 16 + 8 + 16)
    assert plan.bucket_of("w").bytes_of(Kind.STATE) == held.state
    none = make_plan([spec], Mesh(data=16), MESSAGES).bytes_per_rank(0)
    assert none.state == 0


def test_canonical_reduction_of_many_grains_keeps_partial_sums() -> None:
    for grains, num_partials in ((4, 1), (8, 2), (12, 2), (16, 3), (64, 5)):
        plan = make_plan([adam("w", 64)], Mesh(data=4), Policy(grains=grains))
        assert plan.num_partials == num_partials
        assert plan.bytes_per_rank(0).partials == (num_partials - 1) * 64 * 4
        fast = replace(plan.policy, reduction="fast")
        assert make_plan(plan.params, plan.mesh, fast).num_partials == 1


def test_streamed_gradients_keep_the_sums_of_the_grains_before_the_last() -> None:
    policy = replace(MESSAGES, level=Level.GRADIENT)
    for grains, number in ((4, 0), (8, 1), (12, 2), (16, 2), (20, 3)):
        plan = make_plan([adam("w", 64)], Mesh(data=4), replace(policy, grains=grains))
        assert plan.bytes_per_rank(0).partials == number * 64 * 4


def test_seconds_follow_latency_and_bandwidth_of_the_slower_link() -> None:
    machine = Machine(
        node_latency_s=1.0,
        node_bytes_per_s=16.0,
        network_latency_s=100.0,
        network_bytes_per_s=16.0,
    )
    policy = Policy(non_finite="ignore")
    near, far = (
        estimate(
            make_plan([], Mesh(data=4, ranks_per_node=per_node), policy),
            machine=machine,
        ).slowest
        for per_node in (4, 2)
    )
    # 24 bytes to each of three others in two rounds; two ranks share the network.
    assert near.seconds == pytest.approx(2 * 1.0 + 72 / 16)
    assert far.seconds == pytest.approx(2 * 100.0 + 72 / 8)
    # A reduction of lanes of 64 bytes over two nodes, and two hand-overs on a node.
    spec, mesh = ParamSpec("w", (32,)), Mesh(data=4, ranks_per_node=2)
    policy = replace(WINDOW, non_finite="ignore")
    lines = estimate(make_plan([spec], mesh, policy), machine=machine).slowest.traffic
    seconds = {line.purpose: line.seconds for line in lines}
    assert seconds[Purpose.REDUCE_GRADIENT] == pytest.approx(100.0 + 32 / 8)
    assert seconds[Purpose.HAND_OVER] == pytest.approx(2 * 1.0)


def big_model(
    structure: Structure = "element", rounds: tuple[int, ...] = ()
) -> list[ParamSpec]:
    shapes = (("up", (768, 3072)), ("down", (3072, 768)), ("b", (768,)))
    return [
        replace(adam(f"{layer}.{name}", *shape), structure=structure, rounds=rounds)
        for layer in range(12)
        for name, shape in shapes
    ]


def estimate_quickly(specs: list[ParamSpec], mesh: Mesh, policy: Policy) -> Estimate:
    start = time.process_time()
    costs = estimate(make_plan(specs, mesh, policy))
    assert time.process_time() - start < 2.0
    assert sum(each.num_ranks for each in costs.classes) == mesh.size
    return costs


@pytest.mark.parametrize("num_ranks", [100_000, 1600 * 64])
@pytest.mark.parametrize("level", Level)
def test_a_hundred_thousand_ranks_cost_no_more_than_eight(
    num_ranks: int, level: Level
) -> None:
    mesh = Mesh(data=num_ranks, ranks_per_node=64)
    costs = estimate_quickly(big_model(), mesh, Policy(level=level))
    assert len(costs.classes) <= 8
    assert max(block.last for each in costs.classes for block in each.blocks) == (
        num_ranks - 1
    )


def test_sums_over_parameters_are_announced_quickly_too() -> None:
    mesh, clip = Mesh(data=1600 * 64, ranks_per_node=64), Clip(norm=1.0)
    for specs in (big_model(), big_model("tensor_scalar", (2, 1)), big_model("matrix")):
        costs = estimate_quickly(specs, mesh, Policy(level=Level.GRADIENT, clip=clip))
        assert len(costs.classes) <= 8


def test_parts_that_follow_rows_are_counted_quickly_too() -> None:
    # Cuts follow the rows, so neighbours differ at most positions of the group.
    specs = [
        ParamSpec(
            f"{k}.w", (300 + k, 769), structure="row", row_slots=("r",), rounds=(1,)
        )
        for k in range(4)
    ]
    mesh, policy = Mesh(data=1600 * 64, ranks_per_node=64), Policy(level=Level.WEIGHT)
    costs = estimate_quickly(specs, mesh, policy)
    plan = make_plan(specs, mesh, policy)
    for each in costs.classes:
        last = each.blocks[-1].last
        assert each.bytes_held == plan.bytes_per_rank(last)
