"""What ranks do when their world leaves a plan for another."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import param_specs, policies

from parallel_params.plan.mesh import Mesh
from parallel_params.plan.moves import find_moves
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Kind, Level, Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.plan.transfer import transfer

MESHES = (Mesh(data=4), Mesh(data=4, ranks_per_node=2), Mesh(data=4, ranks_per_node=1))
WEIGHT = ParamSpec("w", (100,), state_slots=("m",))
TINY = Policy(shard_threshold_bytes=0, alignment=1)


@st.composite
def pairs(draw: st.DrawFn) -> list[Plan]:
    """Return two plans of one model for four ranks on nodes of any size."""
    specs = draw(param_specs())[:4]
    meshes = [draw(st.sampled_from(MESHES)) for _ in range(2)]
    return [
        make_plan(specs, mesh, draw(policies(mesh=mesh, specs=specs)))
        for mesh in meshes
    ]


@settings(max_examples=30)
@given(pair=pairs())
def test_ranks_send_what_others_take_and_no_more_than_a_transfer(
    pair: list[Plan],
) -> None:
    old, new = pair
    moves = [find_moves(old, new, rank) for rank in range(4)]
    sent = [
        sum(m.buckets[i].bytes_sent for m in moves) for i in range(len(new.buckets))
    ]
    taken = [
        sum(m.buckets[i].bytes_received for m in moves) for i in range(len(new.buckets))
    ]
    assert sent == taken
    assert {m.bytes_moved for m in moves} == {sum(sent)}
    assert sum(sent) <= transfer(old, new).bytes_moved
    for i, number in enumerate(sent):
        assert {m.buckets[i].is_exchanged for m in moves} == {number > 0}


def test_ranks_of_a_node_send_no_weights_and_take_each_lane_once() -> None:
    for per_node, policy in ((4, TINY), (1, replace(TINY, transport="messages"))):
        mesh = Mesh(data=4, ranks_per_node=per_node)
        high = make_plan([WEIGHT], mesh, replace(policy, level=Level.WEIGHT))
        low = make_plan([WEIGHT], mesh, replace(policy, level=Level.STATE))
        moves = [find_moves(high, low, rank) for rank in range(4)]
        weights = [
            piece
            for m in moves
            for bucket in m.buckets
            for piece in bucket.own
            if piece.kind is Kind.WEIGHT
        ]
        assert sum(piece.interval.numel for piece in weights) == 400 // per_node
        # Without a window each of four ranks lacks three quarters.
        expected = 0 if per_node == 4 else 4 * 75 * 4
        assert moves[0].bytes_moved == expected
        assert {m.work_bytes for m in moves} == {expected // 2}
        back = find_moves(low, high, 2)
        assert (back.bytes_moved, back.frozen, back.started) == (0, (), ())
        assert [p.interval.numel for p in back.buckets[0].own] == [25, 25]
        assert len(str(back).splitlines()) == 3


def test_a_report_names_what_starts_and_what_ends() -> None:
    frozen = replace(WEIGHT, requires_grad=False)
    old = make_plan([frozen, replace(WEIGHT, name="v")], Mesh(data=2), TINY)
    new = make_plan([WEIGHT, replace(frozen, name="v")], Mesh(data=2), TINY)
    moves = find_moves(old, new, 1, note="something was noticed")
    assert (moves.started, moves.frozen, moves.dropped_bytes) == (("w",), ("v",), 200)
    assert str(moves).splitlines()[1:] == [
        "  0 B moved between ranks, 0 B of it from rank 1",
        "  rank 1 held 1000 B, holds 1000 B; both, and 0 B of buffers, "
        "while they moved",
        "  1 parameter frozen: v; rank 1 dropped 200 B of state",
        "  1 parameter trained from now on: w; the state starts from zero",
        "  something was noticed",
    ]


def test_what_stays_is_not_looked_up_rank_by_rank() -> None:
    plan = make_plan([WEIGHT], Mesh(data=10**9), TINY)
    last = 10**9 - 1  # most own nothing
    moves = find_moves(plan, plan, last)
    assert (moves.bytes_moved, moves.buckets[0].is_exchanged) == (0, False)
    assert {piece.source for piece in moves.buckets[0].own} == {last}
