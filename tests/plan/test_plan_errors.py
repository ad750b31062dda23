"""Contradictions, each refused with what is wrong and what would work."""

import pytest

from parallel_params.errors import PlanError
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.plan.spec import ParamSpec


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"level": 4}, r"level: expected 0 .* got 4"),
        ({"level": True}, r"level: expected 0 .* got True"),
        ({"level": "1"}, r"level: expected 0 .* got '1'"),
        ({"bucket_bytes": 0}, r"policy.bucket_bytes: .* >= 1, got 0"),
        ({"bucket_bytes": 1.5}, r"policy.bucket_bytes: .* got 1.5"),
        ({"shard_threshold_bytes": -1}, r"shard_threshold_bytes: .* >= 0, got -1"),
        ({"grains": 0}, r"policy.grains: .* >= 1, got 0"),
        ({"alignment": 0}, r"policy.alignment: .* >= 1, got 0"),
        ({"reduction": "canonicle"}, r"unknown 'canonicle'. Did you mean 'canonical'"),
    ],
)
def test_a_policy_out_of_range_is_refused(
    wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        Policy(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_a_level_is_taken_as_a_number() -> None:
    assert Policy(level=2).level is Level.GRADIENT  # type: ignore[arg-type]  # as users do


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": ""}, r"name '': expected printable text"),
        ({"name": "a\nb"}, r"expected printable text"),
        ({"name": "a" * 1025}, r"1025 characters, expected at most 1024"),
        ({"shape": (2, -1)}, r"parameter 'w': shape: .* >= 0, got -1"),
        ({"shape": (2.0,)}, r"parameter 'w': shape: .* got 2.0"),
        ({"dtype": "flot32"}, r"parameter 'w': unknown dtype 'flot32'. Did you mean"),
        ({"structure": "rows"}, r"unknown structure 'rows'. Did you mean 'row'"),
        ({"comm_fusion": -1}, r"parameter 'w': comm_fusion: .* >= 0, got -1"),
        ({"aliases": ("w",)}, r"parameter 'w': its aliases repeat a name"),
        ({"state_slots": ("m", "m")}, r"parameter 'w': state_slots repeat a name"),
        ({"state_slots": ("",)}, r"name '': expected printable text"),
    ],
)
def test_a_parameter_of_nonsense_is_refused(
    wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        ParamSpec(**{"name": "w", "shape": (2,)} | wrong)  # type: ignore[arg-type]


def test_an_unknown_dtype_without_a_near_one_lists_the_known() -> None:
    with pytest.raises(PlanError, match=r"Known: 'bfloat16', 'bool', .* and 1 more"):
        ParamSpec("w", (2,), "quaternion")


@pytest.mark.parametrize(
    "second",
    [
        ParamSpec("w", (3,)),
        ParamSpec("v", (3,), aliases=("w",)),
        ParamSpec("v", (3,), aliases=("tied",)),
    ],
)
def test_two_parameters_of_one_name_are_refused(second: ParamSpec) -> None:
    first = ParamSpec("w", (2,), aliases=("tied",))
    with pytest.raises(PlanError, match=r"two parameters are called '(w|tied)': 'w'"):
        make_plan([first, second], Mesh(data=2), Policy())


def test_grains_that_the_ranks_cannot_share_name_what_works() -> None:
    with pytest.raises(
        PlanError, match=r"6 .* by 4 ranks. Use grains = 4 or 8, .* of 1, 2, 3, 6 ranks"
    ):
        make_plan([], Mesh(data=4), Policy(grains=6))
    with pytest.raises(PlanError, match=r"grains = 2 .* Use grains = 4, or"):
        make_plan([], Mesh(data=4), Policy(grains=2))


def test_fast_reduction_needs_no_shared_grains() -> None:
    plan = make_plan([], Mesh(data=4), Policy(grains=6, reduction="fast"))
    assert plan.grains == 4
    assert "no effect: policy.grains = 6 (fast reduction" in plan.describe()


def test_a_trained_parameter_of_whole_numbers_is_refused() -> None:
    with pytest.raises(PlanError, match=r"'steps': dtype int64 has no gradient"):
        make_plan([ParamSpec("steps", (), "int64")], Mesh(data=2), Policy())


def test_fast_reduction_of_a_dtype_without_mpi_sum_is_refused() -> None:
    with pytest.raises(PlanError, match=r"'w': MPI cannot sum bfloat16"):
        make_plan(
            [ParamSpec("w", (2,), "bfloat16")], Mesh(data=2), Policy(reduction="fast")
        )


def test_a_layerwise_parameter_needs_to_know_its_axis() -> None:
    spec = ParamSpec("w", (2,), layerwise_parallel=True)
    with pytest.raises(
        PlanError, match=r"Name it: Mesh\(..., layerwise_axis='expert'\)"
    ):
        make_plan([spec], Mesh(data=2, expert=2), Policy())
    mesh = Mesh(data=2, expert=2, layerwise_axis="expert")
    assert make_plan([spec], mesh, Policy()).buckets[0].axes == ("data",)


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    plan = make_plan([ParamSpec("layer.weight", (2,))], Mesh(data=2), Policy())
    for question in (plan.explain, plan.bucket_of, plan.extent_of, plan.spec):
        with pytest.raises(PlanError, match=r"no parameter .* mean 'layer.weight'"):
            question("layer.wieght")
