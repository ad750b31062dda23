"""The table of the flags (DESIGN, section 2), row by row."""

import itertools
import math

import pytest

from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Kind, Level, Policy
from parallel_params.plan.spec import ParamSpec

WORLD = Mesh(data=4)
GRID = Mesh(data=2, model=2)

# requires_grad, layerwise_parallel, parallel_optimizer, mesh: ranks it is reduced over,
# and the kinds cut at levels 1, 2 and 3.
CUT_IN_ALL = ("state", "state gradient", "state gradient weight")
WEIGHT_ALONE = ("", "", "weight")
NEVER = ("", "", "")
ROWS = [
    (True, False, True, WORLD, 4, CUT_IN_ALL),
    (True, False, False, WORLD, 4, NEVER),
    (True, True, True, WORLD, 1, NEVER),
    (True, True, False, WORLD, 1, NEVER),
    (True, False, True, GRID, 4, CUT_IN_ALL),
    (True, True, True, GRID, 2, CUT_IN_ALL),
    (True, True, False, GRID, 2, CUT_IN_ALL),
    (False, False, True, WORLD, 4, WEIGHT_ALONE),
    (False, False, False, WORLD, 4, NEVER),
    (False, True, True, WORLD, 1, NEVER),
    (False, True, False, WORLD, 1, NEVER),
]
NAMES = {"state": Kind.STATE, "gradient": Kind.GRADIENT, "weight": Kind.WEIGHT}


def make(flags: tuple[bool, bool, bool], mesh: Mesh, level: int) -> Plan:
    spec = ParamSpec(
        "w",
        (64, 8),
        requires_grad=flags[0],
        layerwise_parallel=flags[1],
        parallel_optimizer=flags[2],
        state_slots=("m",),
    )
    policy = Policy(level=Level(level), shard_threshold_bytes=0, alignment=1)
    return make_plan([spec], mesh, policy)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("row", ROWS)
def test_each_row_of_the_table(
    row: tuple[bool, bool, bool, Mesh, int, tuple[str, str, str]], level: int
) -> None:
    *flags, mesh, num_holders, cut_at = row
    requires_grad, layerwise_parallel, parallel_optimizer = flags
    plan = make((requires_grad, layerwise_parallel, parallel_optimizer), mesh, level)
    (bucket,) = plan.buckets
    cut = ("", *cut_at)[level].split()
    for rank in range(mesh.size):
        assert len(plan.group(bucket, rank)) == num_holders
        for name, kind in NAMES.items():
            expected = 512 // num_holders if name in cut else 512
            if not requires_grad and kind is not Kind.WEIGHT:
                expected = 0
            assert plan.held(bucket, kind, rank).numel == expected
    assert bool(bucket.num_copies(Kind.GRADIENT)) == requires_grad
    assert bool(bucket.num_copies(Kind.STATE)) == requires_grad


SHAPES = [
    Mesh(dict(zip(("outer", "data", "model"), sizes, strict=True)))
    for sizes in itertools.product(range(1, 9), repeat=3)
    if math.prod(sizes) <= 8
]


@pytest.mark.parametrize("mesh", SHAPES, ids=repr)
def test_the_table_holds_on_every_mesh_of_up_to_eight_ranks(mesh: Mesh) -> None:
    for flags in itertools.product((True, False), repeat=3):
        for level in range(4):
            requires_grad, layerwise, is_cuttable = flags
            plan = make((requires_grad, layerwise, is_cuttable), mesh, level)
            (bucket,) = plan.buckets
            slices = mesh.sizes[2] if layerwise else 1
            holders = mesh.size // slices
            cut = set(("", *CUT_IN_ALL)[level].split())
            if not requires_grad:
                cut = {"weight"} if level == 3 else set()
            # Ranks with one slice share its state, whatever parallel_optimizer says.
            if not is_cuttable and not layerwise:
                cut = set()
            for rank in range(mesh.size):
                group = plan.group(bucket, rank)
                own = mesh.coordinate(rank)[2]
                assert len(group) == holders
                assert not layerwise or {mesh.coordinate(r)[2] for r in group} == {own}
                for name, kind in NAMES.items():
                    held = plan.held(bucket, kind, rank).numel
                    if not requires_grad and kind is not Kind.WEIGHT:
                        assert held == 0
                    elif name in cut:
                        assert abs(held - 512 / holders) < 1
                    else:
                        assert held == 512


def test_weights_lie_once_per_node_and_state_over_the_world() -> None:
    spec = ParamSpec("w", (256, 256), state_slots=("m", "v"))
    held = {}
    for level in (2, 3):
        policy = Policy(level=Level(level), shard_threshold_bytes=0)
        mesh = Mesh(data=8, ranks_per_node=4)
        held[level] = make_plan([spec], mesh, policy).bytes_per_rank(0)
    whole = 4 * 256 * 256
    # Hybrid: a node has the weights once, so nothing is gathered between nodes in use.
    assert (held[2].weight, held[2].state) == (whole // 4, 2 * whole // 8)
    assert (held[3].weight, held[3].state) == (whole // 8, 2 * whole // 8)


@pytest.mark.parametrize(("num_bytes", "is_cut"), [(65532, False), (65536, True)])
def test_a_parameter_below_the_threshold_is_kept_whole(
    num_bytes: int, is_cut: bool
) -> None:
    spec = ParamSpec("w", (num_bytes // 4,), state_slots=("m",))
    plan = make_plan([spec], WORLD, Policy())
    assert plan.buckets[0].is_sharded == is_cut
