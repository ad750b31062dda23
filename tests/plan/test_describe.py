"""The pages for people, word for word where it matters."""

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


DESCRIBED = """
    plan 5c9375f6e280, level 1: optimizer state is cut
      4 ranks on 2 nodes, Mesh(data=4)
      6 parameters of 191 653 elements in 4 buckets
      8 grains, 2 per rank, canonical reduction
      shared memory among the 2 ranks of a node, messages between

      a rank holds         bytes  of in total  share
      weight           648.6 KiB    843.6 KiB  76.9%
      gradient         673.6 KiB    768.6 KiB  87.6%
      optimizer state    1.1 MiB      1.5 MiB  75.2%
      work buffers       1.9 MiB
      together           4.3 MiB
      (rank 3: no other holds more; the fullest node holds 8.7 MiB)

      a step sends              collectives      bytes     time
      tell loss and failures              1       72 B    10 us
      hand over within a node             3        0 B    12 us
      reduce gradients                    2  162.0 KiB  36.5 us
      gather reduced gradients            1  128.0 KiB  26.3 us
      judge gradients                     1       72 B    10 us
      gather weights                      1   32.0 KiB  10.2 us
      together                            9  322.1 KiB   105 us
      (rank 1: no other takes longer; estimated for 4 us a message and 2 GB/s inside a node, 5 us and 12.5 GB/s a node between them)

      level  a rank holds  a step sends
          0       4.7 MiB     322.1 KiB
          1       4.3 MiB     322.1 KiB  this plan
          2       4.5 MiB     322.1 KiB
          3       4.5 MiB     418.1 KiB

      bucket  elements      bytes  dtype       over  weight    gradient  optimizer state  parameters
           0     8 100   31.6 KiB  float32   1 rank  whole     whole     whole            own
           1   131 585  514.0 KiB  float32  4 ranks  whole     whole     whole            1.scale, 1.weight, 0.bias
           2    32 768  128.0 KiB  float32  4 ranks  per node  whole     cut              0.weight
           3    19 200   75.0 KiB  float32  4 ranks  per node  -         -                embedding

    kept whole (below policy.shard_threshold_bytes = 64.0 KiB): 0.bias, 1.scale
    kept whole (parallel_optimizer=False): 1.weight
    private (other values on each rank along axis 'data', never sent along it; parallel_optimizer has no effect): own
    frozen (no gradient, no optimizer state): embedding
    tied (one storage, one gradient): head = embedding
    no effect: parallel_optimizer=False of 1.scale (below policy.shard_threshold_bytes = 64.0 KiB)
    start: the ranks compare the digest of this plan and hashes of shared weights; only weights that differ are sent
    canonical reduction costs 673.6 KiB for partial sums of 2 grains and 520.0 KiB to receive the pieces of a bucket
    bits: the same at every level and on any power of two up to 8 ranks, private parameters aside
"""


def test_a_description_says_who_holds_what_and_what_moves(plan: Plan) -> None:
    assert plan.describe() == page(DESCRIBED)


def test_a_long_list_of_buckets_is_summed_up() -> None:
    plan = make_plan(MODEL[1:], Mesh(data=4), Policy(bucket_bytes=1))
    text = plan.describe(most_rows=2)
    assert "  and 3 more buckets of 3 parameters, 642.0 KiB\n" in text
    assert "0.weight" not in text


def test_a_description_of_a_world_of_one_names_what_has_no_effect() -> None:
    plan = make_plan(MODEL, Mesh(data=1), Policy(level=Level.GRADIENT, grains=6))
    lines = plan.describe().splitlines()
    assert "  a step sends nothing: there is one rank" in lines
    assert "no effect: level 2 (one rank)" in lines
    assert "no effect: layerwise_parallel=True of own (the world has one rank)" in lines
    assert (
        "bits: repeatable for its own world size only (grains = 6 is no power of two)"
        in lines
    )


def test_a_description_says_on_which_ranks_the_bits_are_the_same() -> None:
    plan = make_plan(MODEL[:2], Mesh(data=4), Policy())
    assert plan.describe().endswith(
        "bits: the same at every level and on any power of two up to 4 ranks, with "
        "policy.grains = 4\n"
    )
    for choice, why in (
        (Policy(reduction="fast"), "fast reduction"),
        (Policy(wire_dtype="bfloat16"), "gradients travel as bfloat16"),
    ):
        text = make_plan(MODEL[:2], NODES, choice).describe()
        assert text.endswith(
            f"bits: repeatable for its own world size only ({why})\n"
            "bits: they depend on which ranks share a node as well\n"
        )
    three = make_plan(MODEL[:2], Mesh(data=6, ranks_per_node=3), Policy())
    assert "bits: they depend on which ranks share a node as well" in three.describe()
    assert (
        "which ranks share"
        not in make_plan(
            MODEL[:2], Mesh(data=12, ranks_per_node=4), Policy()
        ).describe()
    )
    assert (
        "which ranks share"
        not in make_plan(MODEL[:2], Mesh(data=3), Policy()).describe()
    )


def test_a_level_that_cuts_nothing_is_said() -> None:
    plan = make_plan([ParamSpec("b", (9,))], Mesh(data=2), Policy())
    assert "no effect: level 1 (no parameter is cut)\n" in plan.describe()
    plain = make_plan([ParamSpec("b", (9,))], Mesh(data=2), Policy(level=Level.NOTHING))
    assert "no effect" not in plain.describe()


def test_the_heaviest_ranks_are_named() -> None:
    spec = ParamSpec("w", (192,), state_slots=("m",))
    policy = Policy(shard_threshold_bytes=0, alignment=64)
    plan = make_plan([spec], Mesh(data=2), policy)
    assert "(rank 1: no other holds more;" in plan.describe()
    plan = make_plan([spec], Mesh(data=5), policy)
    assert "(ranks 2 to 4: no other holds more;" in plan.describe()
    # Ten units of 64: ranks 0 and 1 own none, so lanes 2 and 3 of each node own more.
    mesh = Mesh(data=12, ranks_per_node=4)
    plan = make_plan([replace(spec, shape=(10 * 64,))], mesh, policy)
    assert "(6 ranks, the first is 2: no other holds more;" in plan.describe()


@pytest.mark.parametrize(
    ("specs", "mesh", "policy", "line"),
    [
        ([BIG], Mesh(data=1), Policy(), "  memory: all its own, there is one rank"),
        (
            [BIG],
            NODES,
            Policy(transport="messages"),
            "  messages only, as policy.transport asks: every rank has its own copies",
        ),
        (
            [BIG],
            Mesh(data=4, ranks_per_node=1),
            Policy(),
            "  messages only: every rank has a node for itself",
        ),
        (
            [BIG],
            Mesh(data=3, ranks_per_node=2),
            Policy(),
            "  messages only: nodes of 2 ranks do not part every group alike",
        ),
        (
            [BIG],
            Mesh(data=4),
            Policy(),
            "  shared memory among the 4 ranks of the node",
        ),
        (
            [BIG, replace(BIG, name="v")],
            NODES,
            Policy(override={"v": 2}),
            "level 2 (policy.override): v",
        ),
        (
            [replace(BIG, aliases=("head",)), replace(BIG, name="v")],
            NODES,
            Policy(level=Level.WEIGHT),
            "weight not cut over nodes (tied: it is used at several places of a pass)"
            ": w",
        ),
        (
            [replace(BIG, aliases=("head",), requires_grad=False)],
            NODES,
            Policy(level=Level.WEIGHT),
            "kept whole (it is tied and frozen, and tied weights are not cut over "
            "nodes): w",
        ),
        (
            [replace(BIG, requires_grad=False)],
            Mesh(data=4),
            Policy(level=Level.WEIGHT),
            "kept whole (it is frozen, and its node has one copy anyway): w",
        ),
        (
            [BIG, ParamSpec("b", (9,))],
            NODES,
            Policy(override=[("b", 2), ("*", 3), ("w", 2)]),
            "no effect: policy.override of 'b' (what it matches is kept whole, or "
            "matched again by a later pattern)",
        ),
        (
            [BIG, ParamSpec("b", (9,))],
            NODES,
            Policy(override=[("*", 3), ("w", 2)]),
            "no effect: policy.override of '*' (what it matches is kept whole, or "
            "matched again by a later pattern)",
        ),
        (
            [BIG],
            Mesh(data=4),
            Policy(wire_dtype="float16"),
            "no effect: policy.wire_dtype = 'float16' (no wider gradient travels "
            "between nodes)",
        ),
    ],
)
def test_a_description_says_what_came_of_a_choice(
    specs: list[ParamSpec], mesh: Mesh, policy: Policy, line: str
) -> None:
    assert line in make_plan(specs, mesh, policy).describe().splitlines()


def test_choices_with_an_effect_are_not_said_to_have_none() -> None:
    policy = Policy(override={"v": 2}, wire_dtype="float16")
    text = make_plan([BIG, replace(BIG, name="v")], NODES, policy).describe()
    assert "no effect" not in text


SUMMARY_BUCKETS = """
  bucket      bytes     over  is cut           parameters
       0   31.6 KiB   1 rank  nothing          own
       1  514.0 KiB  4 ranks  nothing          1.scale, 1.weight, 0.bias
       2  128.0 KiB  4 ranks  optimizer state  0.weight
       3   75.0 KiB  4 ranks  nothing          embedding
"""


def test_the_summary_is_the_page_without_estimates(plan: Plan) -> None:
    summary = plan.summarise()
    assert SUMMARY_BUCKETS in summary
    page = plan.describe()
    rest = summary.replace(SUMMARY_BUCKETS, "")
    lines = [line for line in rest.splitlines() if "a rank sends" not in line]
    assert all(line in page.splitlines() for line in lines)
    assert "  a rank sends 322.1 KiB in 9 collectives a step" in summary
    assert " us" not in summary


def test_the_summary_names_all_that_is_cut_of_a_bucket() -> None:
    for level, cut in (
        (Level.GRADIENT, "gradient, optimizer state"),
        (Level.WEIGHT, "everything"),
    ):
        plan = make_plan(MODEL[1:2], NODES, Policy(level=level))
        assert f"0  128.0 KiB  4 ranks  {cut}  0.weight" in plan.summarise()


def test_the_summary_of_one_rank_sends_nothing() -> None:
    plan = make_plan(MODEL, Mesh(data=1), Policy())
    assert "  a step sends nothing: there is one rank" in plan.summarise()
