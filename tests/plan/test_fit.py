"""A plan that does not fit is refused with its numbers and with one that does."""

from dataclasses import replace

import pytest

from parallel_params.errors import PlanError
from parallel_params.plan.cost import estimate
from parallel_params.plan.fit import Pool, check_pools
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.plan.spec import ParamSpec

KIB = 1 << 10
MODEL = [ParamSpec(f"{i}", (256, 64), state_slots=("m", "v")) for i in range(8)]
BASE = Policy(shard_threshold_bytes=0, bucket_bytes=64 * KIB, transport="messages")
MESH = Mesh(data=4, ranks_per_node=4)
# Every parameter is a bucket of 64 KiB, the model eight: 512 KiB.


def total(policy: Policy, mesh: Mesh = MESH) -> int:
    return estimate(make_plan(MODEL, mesh, policy)).heaviest.bytes_held.total


def refusal(policy: Policy, limit_bytes: int, mesh: Mesh = MESH) -> str:
    with pytest.raises(PlanError) as caught:
        make_plan(MODEL, mesh, replace(policy, memory_limit_bytes=limit_bytes))
    return str(caught.value)


def test_a_plan_within_the_limit_is_made() -> None:
    exactly = total(BASE)
    plan = make_plan(MODEL, MESH, replace(BASE, memory_limit_bytes=exactly))
    assert plan.policy.memory_limit_bytes == exactly
    assert "512.0 KiB" in plan.describe()  # other levels are shown whatever they need
    assert "cost" in plan.explain("0")


def test_a_refusal_names_the_kinds_and_the_next_level_that_fits() -> None:
    text = refusal(BASE, total(replace(BASE, level=Level.GRADIENT)))
    assert text == (
        "rank 0 would hold 1.4 MiB, but policy.memory_limit_bytes = 1179648 "
        "(1.1 MiB): 512.0 KiB weights, 512.0 KiB gradients, 256.0 KiB optimizer state "
        "and 128.0 KiB buffers to receive. The first policy that fits has level=2: "
        "1.1 MiB a rank"
    )


def test_one_grain_a_rank_is_offered_where_no_level_fits() -> None:
    policy = replace(BASE, grains=64, level=Level.WEIGHT)
    text = refusal(policy, total(replace(policy, grains=4)))
    assert "2.0 MiB partial sums" in text
    assert "The first policy that fits has grains=4: " in text


def test_fast_reduction_is_offered_where_no_grains_fit() -> None:
    policy = replace(BASE, level=Level.WEIGHT, wire_dtype=None)
    text = refusal(policy, total(replace(policy, reduction="fast")))
    assert "The first policy that fits has reduction='fast': " in text


def test_shared_memory_and_smaller_buckets_are_offered_last() -> None:
    policy = replace(BASE, level=Level.WEIGHT, reduction="fast")
    shared = replace(policy, transport="auto")
    text = refusal(policy, total(shared))
    assert "The first policy that fits has transport='auto': " in text
    large = replace(shared, bucket_bytes=256 * KIB)
    text = refusal(large, total(shared))
    assert "The first policy that fits has bucket_bytes=65536: " in text


def test_a_model_that_fits_no_way_is_told_the_least() -> None:
    least = replace(BASE, level=Level.GRADIENT, transport="auto")
    text = refusal(BASE, 10_000)
    assert (
        f"No policy fits on these 4 ranks. The least is {total(least) // KIB}" in text
    )
    assert "with level=2 and transport='auto'. Use a smaller" in text
    assert "8, 16, 32, 64, 128 and 256 ranks at level 3 are too few as well" in text
    # There is nothing left to change.
    text = refusal(replace(least, level=Level.WEIGHT, reduction="fast"), 10_000)
    assert "No policy fits on these 4 ranks. Use a smaller" in text


def test_a_number_of_ranks_that_fits_is_offered_where_no_policy_does() -> None:
    policy = replace(BASE, level=Level.WEIGHT, reduction="fast", transport="auto")
    mesh = Mesh(data=8, ranks_per_node=4)
    limit = total(policy, mesh)
    assert limit < total(policy)
    text = refusal(policy, limit)
    assert "Use 8 ranks (" in text
    make_plan(MODEL, mesh, replace(policy, memory_limit_bytes=limit))
    # Smaller than what level 1 and 2 need there: the level is said as well.
    low = replace(BASE, reduction="fast", transport="auto")
    assert "Use 8 ranks at level 3 (" in refusal(low, limit)
    # Four grains are not for more than four ranks.
    text = refusal(replace(low, reduction="canonical", grains=4), 10_000)
    assert text.endswith("Use more ranks, a smaller model or a higher limit")


def slices(numel: int, *, is_cut: bool) -> list[ParamSpec]:
    """Return a head that is a rank's slice of one tensor, and a small body."""
    head = ParamSpec(
        "head",
        (numel // 64, 64),
        state_slots=("m", "v"),
        layerwise_parallel=is_cut,
        slice_dim=0,
    )
    return [ParamSpec("body", (64,), state_slots=("m", "v")), head]


@pytest.mark.parametrize("axes", [{"classes": 1}, {"data": 1, "model": 1}])
def test_slices_that_are_cut_further_fit_on_more_ranks(axes: dict[str, int]) -> None:
    own = list(axes)[-1]
    policy = Policy(memory_limit_bytes=300 * KIB)
    with pytest.raises(PlanError) as caught:
        make_plan(slices(1 << 16, is_cut=False), Mesh(axes), policy)
    mesh = Mesh(axes | {own: 4})
    assert f"Use 4 ranks as {mesh!r} (25" in str(caught.value)
    assert "a rank) if the cells can be cut so, a smaller" in str(caught.value)
    make_plan(slices(1 << 14, is_cut=True), mesh, policy)


def test_slices_that_no_axis_divides_are_not_offered_on_more_ranks() -> None:
    mesh, policy = Mesh(data=1, model=1), Policy(memory_limit_bytes=10, grains=1)
    with pytest.raises(PlanError, match=r"Use more ranks, a smaller model or"):
        make_plan(slices(3 * 64, is_cut=False), mesh, policy)


def test_policies_that_are_no_plan_are_not_offered() -> None:
    specs = [replace(spec, dtype="bfloat16") for spec in MODEL]
    policy = replace(BASE, level=Level.WEIGHT, transport="auto", memory_limit_bytes=9)
    with pytest.raises(PlanError, match=r"No policy fits on these 4 ranks. Use "):
        make_plan(specs, MESH, policy)


def pool(free_bytes: int, *ranks: int, name: str = "the machine m") -> Pool:
    return Pool(name=name, ranks=ranks, free_bytes=free_bytes)


def test_ranks_take_together_what_each_holds() -> None:
    plan = make_plan(MODEL, MESH, BASE)
    needed = 4 * total(BASE)
    check_pools(plan, [pool(needed, 0, 1, 2, 3)])
    check_pools(plan, [pool(needed // 2, 1, 2), pool(needed // 4, 3)])
    check_pools(plan, [])
    with pytest.raises(PlanError) as caught:
        check_pools(plan, [pool(needed, 0, 1, 2, 3), pool(needed // 4 - 1, 2)])
    assert "rank 2 would hold 1.4 MiB, but the machine m has 1.4 MiB" in str(
        caught.value
    )


def test_a_refusal_names_the_pool_that_lacks_most_and_a_policy_for_all_pools() -> None:
    plan = make_plan(MODEL, MESH, BASE)
    least = total(replace(BASE, level=Level.GRADIENT))
    pools = [pool(4 * least, 0, 1, 2, 3), pool(2 * least + 9, 0, 2, name="the cgroup")]
    with pytest.raises(PlanError) as caught:
        check_pools(plan, pools)
    assert str(caught.value) == (
        "ranks 0 to 3 together would hold 5.5 MiB, but the machine m has 4.5 MiB of "
        "memory free for that: 2.0 MiB weights, 2.0 MiB gradients, 1.0 MiB optimizer "
        "state and 512.0 KiB buffers to receive. The first policy that fits has "
        "level=2: 4.5 MiB of 4.5 MiB. To try all the same, set "
        "policy.memory_limit_bytes = 'unlimited' (of a job: parallel.memory_limit)"
    )
    with pytest.raises(PlanError, match="2 ranks together, the first is 1, would"):
        check_pools(plan, [pool(9, 1, 3)])


def test_fewer_ranks_or_more_machines_are_offered_where_no_policy_fits() -> None:
    policy = replace(BASE, level=Level.WEIGHT, reduction="fast")
    plan = make_plan(MODEL, MESH, policy)
    on_two = 2 * total(policy, Mesh(data=2, ranks_per_node=4))
    with pytest.raises(PlanError) as caught:
        check_pools(plan, [pool(on_two, 0, 1, 2, 3)], can_share=False)
    assert "No policy fits on these 4 ranks. " in str(caught.value)
    assert "Use 2 ranks (" in str(caught.value)
    assert ". Use 16 ranks on more machines like these (" in str(caught.value)
    # The other machines are as this one: two of their ranks have as little as here.
    pools = [pool(1 << 40, 0, 1, 2, 3), pool(on_two // 4, 2, 3, name="the cgroup")]
    with pytest.raises(PlanError, match=r"Use 2 ranks \(.*; 8, .* are too few"):
        check_pools(plan, pools, can_share=False)


def test_fewer_ranks_are_not_offered_where_that_changes_nothing() -> None:
    for mesh in (Mesh(model=2), Mesh(data=8, ranks_per_node=4), Mesh(a=1, b=1)):
        plan = make_plan(MODEL, mesh, BASE)
        with pytest.raises(PlanError) as caught:
            check_pools(plan, [pool(10, *range(mesh.size))])
        assert "No policy fits" in str(caught.value)
        assert "Use 1 rank" not in str(caught.value)


def test_the_largest_worlds_are_not_tried() -> None:
    text = refusal(BASE, 10, Mesh(data=1 << 16, ranks_per_node=64))
    assert text.endswith("Use more ranks, a smaller model or a higher limit")


def test_shared_memory_is_no_way_out_where_it_was_tried() -> None:
    plan = make_plan(MODEL, MESH, replace(BASE, level=Level.WEIGHT, reduction="fast"))
    shared = replace(BASE, level=Level.GRADIENT, transport="auto")
    tight = [pool(4 * total(shared), 0, 1, 2, 3)]
    with pytest.raises(PlanError, match="The first policy that fits has transport="):
        check_pools(plan, tight)
    with pytest.raises(PlanError, match="No policy fits"):
        check_pools(plan, tight, can_share=False)


def test_what_a_machine_has_is_not_asked_by_a_plan() -> None:
    digests = {
        make_plan(MODEL, MESH, replace(BASE, memory_limit_bytes=limit)).digest
        for limit in (None, "unlimited")
    }
    assert len(digests) == 2
    with pytest.raises(PlanError, match=r"'unlimited' or a whole number >= 1, got 'x'"):
        Policy(memory_limit_bytes="x")  # type: ignore[arg-type]  # what is tested
