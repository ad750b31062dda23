"""What a plan says of one parameter, word for word where it matters."""

# ruff: noqa: E501  (a page is as wide as it is)

from dataclasses import replace

import pytest
from pages import BIG, MODEL, NODES, page

from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.plan.spec import ParamSpec


@pytest.fixture
def plan() -> Plan:
    return make_plan(MODEL, NODES, Policy(grains=8))


CUT = """
    0.weight: float32 (512, 64), 32 768 elements, 128.0 KiB, bucket 2 of 4

      requires_grad=True        trained: its gradient is reduced over 4 ranks (data); optimizer state m, v
      layerwise_parallel=False  the same values on all 4 ranks
      parallel_optimizer=True   optimizer state cut over 4 ranks
      comm_fusion=1             travels alone

      weight           one copy on each of 2 nodes, shared by 2 ranks
      gradient         whole on 4 ranks
      optimizer state  cut: [0, 8192) on rank 0, [8192, 16384) on rank 1, [16384, 24576) on rank 2, [24576, 32768) on rank 3

      flipping                  would
      requires_grad=False       save 320.0 KiB per rank and save 64.0 KiB sent per step
      layerwise_parallel=True   cost 256.0 KiB per rank and save 64.0 KiB sent per step
      parallel_optimizer=False  cost 576.0 KiB per rank
"""


def test_an_explanation_of_a_cut_parameter(plan: Plan) -> None:
    assert plan.explain("0.weight") == page(CUT)


WHOLE = """
    1.scale: float32 (), 1 element, 4 B, bucket 1 of 4

      requires_grad=True        trained: its gradient is reduced over 4 ranks (data); optimizer state m, v
      layerwise_parallel=False  the same values on all 4 ranks
      parallel_optimizer=False  no effect: below policy.shard_threshold_bytes = 64.0 KiB
      comm_fusion=1             travels with 1.weight, 0.bias

      weight           whole on 4 ranks
      gradient         whole on 4 ranks
      optimizer state  whole on 4 ranks

      flipping                 would
      requires_grad=False      save 44 B per rank and save 4 B sent per step
      layerwise_parallel=True  save 28 B per rank and save 4 B sent per step
      parallel_optimizer=True  change no byte
"""


def test_an_explanation_of_a_kept_whole_parameter(plan: Plan) -> None:
    assert plan.explain("1.scale") == page(WHOLE)


TIED = """
    embedding: float32 (300, 64), 19 200 elements, 75.0 KiB, bucket 3 of 4, also called head

      requires_grad=False       frozen: no gradient, no optimizer state
      layerwise_parallel=False  the same values on all 4 ranks
      parallel_optimizer=True   no effect: it is frozen, and level 1 cuts no weights
      comm_fusion=1             no effect: nothing of it is sent

      weight           one copy on each of 2 nodes, shared by 2 ranks
      gradient         none
      optimizer state  none

      flipping                  would
      requires_grad=True        cost 150.0 KiB per rank and cost 39.0 KiB sent per step
      layerwise_parallel=True   cost 36.0 KiB per rank
      parallel_optimizer=False  change no byte
"""


def test_an_explanation_of_a_frozen_parameter(plan: Plan) -> None:
    assert plan.explain("head") == page(TIED)


PRIVATE = """
    own: float32 (90, 90), 8 100 elements, 31.6 KiB, bucket 0 of 4

      requires_grad=True       trained: its gradient stays on its rank; optimizer state m, v
      layerwise_parallel=True  other values on each of the 4 ranks along axis 'data', never sent along it
      parallel_optimizer=True  no effect: layerwise_parallel decides
      comm_fusion=1            no effect: nothing of it is sent

      weight           whole, on each rank its own
      gradient         whole, on each rank its own
      optimizer state  whole, on each rank its own

      flipping                  would
      requires_grad=False       save 126.6 KiB per rank
      layerwise_parallel=False  cost 77.5 KiB per rank and cost 15.6 KiB sent per step
      parallel_optimizer=False  change no byte
"""


def test_an_explanation_of_a_private_parameter(plan: Plan) -> None:
    assert plan.explain("own") == page(PRIVATE)


@pytest.mark.parametrize(
    ("spec", "mesh", "policy", "sentence"),
    [
        (ParamSpec("w", (9,)), Mesh(data=1), Policy(), "no effect: the world has one"),
        (ParamSpec("w", (9,)), Mesh(data=2), Policy(level=Level(0)), "level 0 cuts no"),
        (
            ParamSpec("w", (9,), layerwise_parallel=True),
            Mesh(data=2, model=1),
            Policy(),
            "no effect: the mesh has one rank along axis 'model'",
        ),
        (
            ParamSpec("w", (9,), layerwise_parallel=True),
            Mesh(data=2, model=2),
            Policy(),
            "other values on each of the 2 ranks along axis 'model'",
        ),
        (
            ParamSpec("w", (9,), comm_fusion=0),
            Mesh(data=2, ranks_per_node=1),
            Policy(),
            "travels alone, as it asks",
        ),
        (ParamSpec("w", (9,)), Mesh(data=2), Policy(), "its rule keeps no state"),
        (
            ParamSpec("w", (0,)),
            Mesh(data=2),
            Policy(level=Level(3), shard_threshold_bytes=0),
            "cut, but it has no elements",
        ),
        (
            ParamSpec("w", (640,)),
            Mesh(data=8),
            Policy(level=Level(3), shard_threshold_bytes=0, alignment=64),
            "[192, 256) on rank 3, and so on to rank 7",
        ),
        (
            ParamSpec("w", (), "int64", requires_grad=False),
            Mesh(data=2),
            Policy(),
            "be refused: parameter 'w': dtype int64 has no gradient",
        ),
    ],
)
def test_an_explanation_says_why(
    spec: ParamSpec, mesh: Mesh, policy: Policy, sentence: str
) -> None:
    assert sentence in make_plan([spec], mesh, policy).explain("w")


@pytest.mark.parametrize(
    ("level", "mesh", "place"),
    [
        (0, NODES, "weight           whole on 4 ranks"),
        (1, NODES, "weight           one copy on each of 2 nodes, shared by 2 ranks"),
        (3, NODES, "weight           a part on each of 2 nodes, shared by 2 ranks"),
        (3, Mesh(data=4), "weight           one copy, shared by 4 ranks"),
    ],
)
def test_an_explanation_says_where_weights_lie(
    level: int, mesh: Mesh, place: str
) -> None:
    plan = make_plan([BIG], mesh, Policy(level=Level(level)))
    assert place in plan.explain("w")


def test_an_explanation_names_overrides_and_what_ties_prevent() -> None:
    specs = [replace(BIG, aliases=("head",)), replace(BIG, name="v")]
    plan = make_plan(specs, NODES, Policy(override={"head": 3}))
    sentence = (
        "optimizer state and gradient cut over 4 ranks, level 3 by policy.override; "
        "the weight is not cut over nodes: tied, it is used at several places"
    )
    assert sentence.replace(
        "optimizer state and gradient", "gradient and optimizer state"
    ) in plan.explain("w")


def test_an_explanation_names_all_states_of_a_rule() -> None:
    spec = ParamSpec(
        "w",
        (512, 64),
        "bfloat16",
        structure="row",
        state_slots=("m",),
        row_slots=("r",),
        column_slots=("c",),
    )
    text = make_plan([spec], NODES, Policy(shard_threshold_bytes=0)).explain("w")
    assert "optimizer state m, master_weight, r, c\n" in text


def test_a_frozen_parameter_is_cut_at_level_3_alone() -> None:
    frozen = replace(MODEL[0], aliases=())
    for level, is_cut in ((2, False), (3, True)):
        mesh = Mesh(data=2, ranks_per_node=1)
        plan = make_plan([frozen], mesh, Policy(level=Level(level)))
        assert ("weight cut over 2 ranks" in plan.explain("embedding")) == is_cut


def test_flipping_a_flag_costs_what_the_flipped_plan_costs(plan: Plan) -> None:
    flipped = [
        replace(spec, parallel_optimizer=False) if spec.name == "0.weight" else spec
        for spec in MODEL
    ]
    after = make_plan(flipped, plan.mesh, plan.policy)
    before = max(plan.bytes_per_rank(rank).total for rank in range(4))
    extra = max(after.bytes_per_rank(rank).total for rank in range(4)) - before
    assert f"cost {extra / 1024:.1f} KiB per rank" in plan.explain("0.weight")
