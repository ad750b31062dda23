"""The table of the flags (DESIGN, section 2), row by row."""

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


@pytest.mark.parametrize(("num_bytes", "is_cut"), [(65532, False), (65536, True)])
def test_a_parameter_below_the_threshold_is_kept_whole(
    num_bytes: int, is_cut: bool
) -> None:
    spec = ParamSpec("w", (num_bytes // 4,), state_slots=("m",))
    plan = make_plan([spec], WORLD, Policy())
    assert plan.buckets[0].is_sharded == is_cut
