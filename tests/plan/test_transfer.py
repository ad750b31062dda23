from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MESHES, at_level, meshes, param_specs, policies

from parallel_params.errors import PlanError
from parallel_params.plan.interval import Interval, is_cover
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Kind, Level, Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.plan.transfer import Transfer, transfer

laws = settings(max_examples=30)


@st.composite
def replans(draw: st.DrawFn, *, number: int = 2) -> list[Plan]:
    """Return plans of one model on several meshes, with as many slices on each."""
    specs = draw(param_specs())[:4]
    drawn = [draw(meshes())]
    usable = MESHES
    if any(spec.layerwise_parallel for spec in specs):
        slices = num_slices(drawn[0])
        usable = tuple(mesh for mesh in MESHES if num_slices(mesh) == slices)
    drawn += [draw(st.sampled_from(usable)) for _ in range(number - 1)]
    chosen = [draw(policies(mesh=mesh, specs=specs)) for mesh in drawn]
    # All or none of them has master weights: what one lacks, the next one starts anew.
    return [
        make_plan(specs, mesh, replace(policy, master_weights=chosen[0].master_weights))
        for mesh, policy in zip(drawn, chosen, strict=True)
    ]


def num_slices(mesh: Mesh) -> int:
    axis = mesh.layerwise_axis
    return 0 if axis is None else mesh.group_size((axis,))


Places = dict[tuple[int, str, Kind, str], list[Interval]]


def held_in(plan: Plan) -> Places:
    """Return what every rank holds of every parameter, in elements of the parameter."""
    places: Places = {}
    for rank in range(plan.mesh.size):
        for bucket in plan.buckets:
            for extent in bucket.extents:
                weight, state = (
                    plan.held(bucket, kind, rank)
                    .intersect(extent.interval)
                    .shift(-extent.interval.start)
                    for kind in (Kind.WEIGHT, Kind.STATE)
                )
                held = {(Kind.WEIGHT, ""): weight}
                held |= {(Kind.STATE, slot): state for slot in bucket.state_slots}
                if not state.is_empty:
                    row = extent.row_numel
                    rows = Interval(state.start // row, state.stop // row)
                    held |= {(Kind.STATE, slot): rows for slot in bucket.row_slots}
                    columns = Interval(0, row)
                    held |= {(Kind.STATE, s): columns for s in bucket.column_slots}
                for (kind, slot), part in held.items():
                    if not part.is_empty:
                        places[rank, extent.name, kind, slot] = [part]
    return places


def assert_covers_once(moved: Transfer, plan: Plan) -> None:
    reached: Places = defaultdict(list)
    for piece in moved.pieces:
        reached[piece.target, piece.name, piece.kind, piece.slot].append(piece.interval)
    wanted = held_in(plan)
    assert reached.keys() == wanted.keys()
    for place, pieces in reached.items():
        assert is_cover(pieces, wanted[place][0])


def assert_sources_hold(moved: Transfer, plan: Plan) -> None:
    held = held_in(plan)
    for piece in moved.pieces:
        assert piece.source is not None
        (own,) = held[piece.source, piece.name, piece.kind, piece.slot]
        assert own.intersect(piece.interval) == piece.interval
        bucket = plan.bucket_of(piece.name)
        assert piece.num_bytes == piece.interval.numel * bucket.item_bytes_of(
            piece.kind
        )


@laws
@given(pair=replans())
def test_a_transfer_covers_each_element_once_from_ranks_that_hold_it(
    pair: list[Plan],
) -> None:
    old, new = pair
    moved = transfer(old, new)
    assert_covers_once(moved, new)
    assert_sources_hold(moved, old)


@laws
@given(pair=replans())
def test_a_transfer_stays_within_a_slice(pair: list[Plan]) -> None:
    old, new = pair
    for piece in transfer(old, new).pieces:
        axes = new.bucket_of(piece.name).axes, old.bucket_of(piece.name).axes
        assert piece.source is not None
        assert new.mesh.slice_index(piece.target, axes[0]) == old.mesh.slice_index(
            piece.source, axes[1]
        )


@laws
@given(pair=replans())
def test_a_transfer_to_itself_copies_nothing(pair: list[Plan]) -> None:
    for plan in pair:
        moved = transfer(plan, plan)
        assert moved.copies == ()
        assert moved.bytes_moved == 0


@laws
@given(pair=replans())
def test_a_transfer_copies_only_what_a_rank_lacks(pair: list[Plan]) -> None:
    old, new = pair
    held = held_in(old)
    for piece in transfer(old, new).copies:
        bucket_axes = old.bucket_of(piece.name).axes
        key = (piece.target, piece.name, piece.kind, piece.slot)
        if key in held and old.mesh.slice_index(
            piece.target, bucket_axes
        ) == new.mesh.slice_index(piece.target, new.bucket_of(piece.name).axes):
            assert held[key][0].intersect(piece.interval).is_empty


@laws
@given(three=replans(number=3))
def test_transfers_compose(three: list[Plan]) -> None:
    first, second, third = three
    composed = transfer(first, second).then(transfer(second, third))
    assert_covers_once(composed, third)
    assert_sources_hold(composed, first)


def test_a_rank_that_changes_its_slice_takes_the_values_of_the_new_one() -> None:
    spec = ParamSpec("own", (4,), layerwise_parallel=True)
    old = make_plan([spec], Mesh({"data": 3, "model": 2}), Policy())
    new = make_plan([spec], Mesh({"model": 2, "data": 3}), Policy())
    sources = {piece.target: piece.source for piece in transfer(old, new).pieces}
    # Even ranks held the first slice, ranks 0 to 2 are to hold it. Those that lack it
    # take it from its owner, the last of the old group.
    assert sources == {0: 0, 1: 4, 2: 2, 3: 3, 4: 5, 5: 5}


WEIGHT = ParamSpec("w", (100,), state_slots=("m",))
TINY = Policy(shard_threshold_bytes=0, alignment=1)


def test_raising_the_level_moves_nothing_and_lowering_it_gathers() -> None:
    high = make_plan([WEIGHT], Mesh(data=4), replace(TINY, level=Level.WEIGHT))
    low = at_level(high, Level.NOTHING)
    assert transfer(low, high).bytes_moved == 0
    # Weight and state of 100 elements; each of four ranks lacks three quarters.
    assert transfer(high, low).bytes_moved == 2 * 4 * 75 * 4


def test_state_that_nobody_has_starts_anew() -> None:
    frozen = replace(WEIGHT, requires_grad=False)
    old = make_plan([frozen], Mesh(data=2), TINY)
    new = make_plan([WEIGHT], Mesh(data=2), TINY)
    moved = transfer(old, new)
    anew = [piece for piece in moved.pieces if piece.source is None]
    assert {(piece.kind, piece.slot) for piece in anew} == {(Kind.STATE, "m")}
    assert not any(piece.is_copy for piece in anew)
    again = transfer(old, old).then(moved)
    assert again == moved
    assert transfer(old, new).then(transfer(new, new)) == moved


def test_states_of_other_shapes_or_none_start_anew() -> None:
    shape = ParamSpec("w", (6, 4), "bfloat16", structure="row", state_slots=("v",))
    old = make_plan([shape], Mesh(data=2), replace(TINY, master_weights=False))
    rows = replace(shape, state_slots=(), row_slots=("v",), column_slots=("c",))
    new = make_plan([rows], Mesh(data=2), TINY)
    moved = transfer(old, new)
    anew = {piece.slot for piece in moved.pieces if piece.source is None}
    assert anew == {"v", "c", "master_weight"}
    assert [p.interval.numel for p in moved.pieces if p.slot == "v"] == [3, 3]
    assert [p.interval.numel for p in moved.pieces if p.slot == "c"] == [4, 4]
    assert [p.num_bytes for p in moved.pieces if p.slot == "v"] == [12, 12]


def test_transfers_that_do_not_follow_each_other_are_refused() -> None:
    high = make_plan([WEIGHT], Mesh(data=2), replace(TINY, level=Level.WEIGHT))
    low = at_level(high, Level.NOTHING)
    with pytest.raises(PlanError, match=r"rank 0 has no elements \[0, 100\) of 'w'"):
        transfer(low, high).then(transfer(low, low))


def test_other_parameters_are_refused() -> None:
    old = make_plan([WEIGHT], Mesh(data=2), TINY)
    for spec, message in (
        (replace(WEIGHT, shape=(99,)), r"'w': shape \(100,\) in the old plan, \(99,\)"),
        (replace(WEIGHT, dtype="float64"), r"'w': dtype float32 in the old plan"),
        (replace(WEIGHT, name="v"), r"no parameter 'v'"),
    ):
        with pytest.raises(PlanError, match=message):
            transfer(old, make_plan([spec], Mesh(data=2), TINY))


def test_a_value_of_all_becomes_everyones_own_but_not_back() -> None:
    old = make_plan([WEIGHT], Mesh(data=2), TINY)
    own = make_plan([replace(WEIGHT, layerwise_parallel=True)], Mesh(data=2), TINY)
    sources = {(p.target, p.slot, p.source) for p in transfer(old, own).pieces}
    # State was cut: each rank lacks one half, and takes it from the owner.
    assert sources == {(r, "", r) for r in (0, 1)} | {
        (r, "m", s) for r in (0, 1) for s in (0, 1)
    }
    with pytest.raises(PlanError, match=r"'w' has 2 different slices .* 1 in the new"):
        transfer(own, old)
