"""A total has the same bits whoever owns which leaves of how many parameters."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranked import OnRanks, assert_on_all_ranks
from strategies import plans

from parallel_params.comm.protocol import Communicator
from parallel_params.plan.plan import Plan
from parallel_params.runtime.leaves import Member, Tree, owned_trees, whole_trees
from parallel_params.runtime.totals import NARROW, Totals
from parallel_params.tensor.row_sums import tree_sum_rows
from parallel_params.tensor.tape import Array

WIDTHS = (1, 1, 2, 3, NARROW, NARROW + 1)
laws = settings(max_examples=50)


@st.composite
def splits(draw: st.DrawFn) -> tuple[int, list[Tree], list[int]]:
    """Return a number of ranks, trees cut among them at random, and widths."""
    num_ranks = draw(st.integers(1, 7))
    trees, widths = [], []
    for _ in range(draw(st.integers(0, 4))):
        count = draw(st.integers(0, 40))
        slices = [
            _cut(draw(st.lists(st.integers(0, count), max_size=num_ranks - 1)), count)
            for _ in range(draw(st.integers(1, 3)))
        ]
        trees.append(Tree(num_leaves=count, slices=tuple(slices)))
        widths.append(draw(st.sampled_from(WIDTHS)))
    return num_ranks, trees, widths


def _cut(borders: list[int], count: int) -> tuple[tuple[int, range], ...]:
    edges = [0, *sorted(borders), count]
    owners = enumerate(range(*edge) for edge in pairwise(edges))
    return tuple((rank, leaves) for rank, leaves in owners if leaves)


def _leaves(trees: list[Tree], widths: list[int]) -> list[list[Array]]:
    """Return numbers whose sum depends on the order: by tree, by slice."""
    rng = np.random.default_rng(len(trees))
    return [
        [
            rng.normal(size=(tree.num_leaves, width))
            for _ in range(max(1, len(tree.slices)))
        ]
        for tree, width in zip(trees, widths, strict=True)
    ]


def _of(rank: int, tree: Tree, values: list[Array]) -> Array:
    parts = [
        rows[leaves.start : leaves.stop]
        for owners, rows in zip(tree.slices, values, strict=False)
        for owner, leaves in owners
        if owner == rank
    ]
    return np.concatenate([values[0][:0], *parts])


def _expected(values: list[Array]) -> Array:
    """Return the sum that one rank with all leaves makes, one addition at a time."""
    if not values[0].size:
        return np.zeros(values[0].shape[1])
    return tree_sum_rows(np.stack([tree_sum_rows(rows.copy()) for rows in values]))


def _totals(
    trees: list[Tree], widths: list[int], values: list[list[Array]], num_ranks: int
) -> list[list[Array]]:
    """Return what every rank makes of what all of them send."""
    everyone = [
        Totals(trees, widths, num_ranks=num_ranks, position=rank)
        for rank in range(num_ranks)
    ]
    sent = [
        totals.pack([_of(rank, *each) for each in zip(trees, values, strict=True)])
        for rank, totals in enumerate(everyone)
    ]
    assert {totals.counts for totals in everyone} == {tuple(map(len, sent))}
    return [totals.combine(np.concatenate(sent)) for totals in everyone]


@laws
@given(split=splits())
def test_any_split_of_the_leaves_gives_the_sum_over_the_whole_tree(
    split: tuple[int, list[Tree], list[int]],
) -> None:
    num_ranks, trees, widths = split
    values = _leaves(trees, widths)
    for found in _totals(trees, widths, values, num_ranks):
        for total, each in zip(found, values, strict=True):
            np.testing.assert_array_equal(total, _expected(each), strict=True)


def test_another_order_gives_other_bits() -> None:
    """Else the law above would hold for any sum."""
    values = _leaves([Tree(num_leaves=40, slices=(((0, range(40)),),))], [1])
    assert _expected(values[0])[0] != np.cumsum(values[0][0])[-1]


def _members(plan: Plan) -> list[Member]:
    return [(b, e) for b in plan.buckets if b.is_trainable for e in b.extents]


@laws
@given(plan=plans())
def test_ranks_send_as_many_numbers_as_the_plan_announces(plan: Plan) -> None:
    members = _members(plan)
    trees = owned_trees(plan, members, range(plan.mesh.size))
    widths = [1] * len(trees)
    totals = Totals(trees, widths, num_ranks=plan.mesh.size, position=0)
    assert totals.counts == tuple(
        sum(plan.num_nodes_of(b, rank) for b in plan.buckets if b.is_trainable)
        for rank in range(plan.mesh.size)
    )


@laws
@given(plan=plans())
def test_a_group_totals_what_a_rank_with_all_leaves_does(plan: Plan) -> None:
    for bucket in plan.buckets:
        members = [(bucket, extent) for extent in bucket.extents]
        group = plan.group(bucket, plan.mesh.size - 1)
        widths = [2] * len(members)
        whole = list(whole_trees(plan, members))
        values = _leaves(whole, widths)
        (alone,) = _totals(whole, widths, values, 1)
        owned = list(owned_trees(plan, members, group))
        for found in _totals(owned, widths, values, len(group)):
            np.testing.assert_array_equal(np.stack(found), np.stack(alone))


@pytest.mark.mpi
def test_every_rank_of_a_world_gets_the_total(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        values = np.random.default_rng(0).normal(size=(23, 2))
        edges = [23 * rank // comm.size for rank in range(comm.size + 1)]
        owners = tuple(enumerate(range(*edge) for edge in pairwise(edges)))
        tree = Tree(num_leaves=23, slices=(owners,))
        empty = Tree(num_leaves=0, slices=())
        totals = Totals([tree, empty], [2, 1], num_ranks=comm.size, position=comm.rank)
        own = values[edges[comm.rank] : edges[comm.rank + 1]]
        found, nothing = totals.run(comm, [own, np.empty((0, 1))])
        expected = tree_sum_rows(values.copy())
        ok = (found == expected).all() and nothing.tolist() == [0.0]
        assert_on_all_ranks(comm, bool(ok), f"got {found}, want {expected}")

    on_ranks(body)


@laws
@given(split=splits())
def test_leaves_may_come_added_up_to_subtrees(
    split: tuple[int, list[Tree], list[int]],
) -> None:
    num_ranks, trees, widths = split
    trees = [Tree(num_leaves=t.num_leaves, slices=t.slices[:1]) for t in trees]
    values = _leaves(trees, widths)
    for rank in range(num_ranks):
        leaves = [_of(rank, *each) for each in zip(trees, values, strict=True)]
        folded = [
            np.array(
                [tree_sum_rows(rows[node.start : node.stop].copy()) for node in nodes]
            )
            for nodes, rows in zip(
                [t.nodes_of(rank) for t in trees], leaves, strict=True
            )
        ]
        mixed = [i % 2 == 0 for i in range(len(trees))]
        given = [folded[i] if mixed[i] else leaves[i] for i in range(len(trees))]
        plain = Totals(trees, widths, num_ranks=num_ranks, position=rank)
        other = Totals(
            trees, widths, num_ranks=num_ranks, position=rank, are_folded=mixed
        )
        assert sorted(plain.pack(leaves)) == sorted(other.pack(given))
        assert other.counts == plain.counts


def test_a_rank_alone_needs_no_communicator() -> None:
    tree = Tree(num_leaves=3, slices=(((0, range(3)),),))
    totals = Totals([tree], [1], num_ranks=1, position=0)
    (found,) = totals.run(None, [np.array([[1.0], [2.0], [4.0]])])
    assert found.tolist() == [7.0]
