"""Collectives inside of nodes first: the bits of one node, the fewest bytes between."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from cut_nets import NETS
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from two_hosts_rank import mesh_of, train

from parallel_params.comm.ledger import Ledger
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Buffer, Communicator
from parallel_params.nn.parallel import Axis
from parallel_params.nn.parallel.route import Route, subtrees
from parallel_params.plan.mesh import Mesh
from parallel_params.tensor.row_sums import tree_sum_rows


class Pairs(Ledger):
    """Counts what goes from each rank to each other one."""

    def __init__(self, inner: Communicator) -> None:
        super().__init__(inner)
        self.sent = Counter[tuple[int, int]]()

    def all_to_all(
        self,
        send: Buffer,
        send_counts: Sequence[int],
        recv: Buffer,
        recv_counts: Sequence[int],
    ) -> None:
        for rank, count in enumerate(send_counts):
            self.sent[self.rank, rank] += count
        super().all_to_all(send, send_counts, recv, recv_counts)


ranks_on_nodes = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=2, max_size=7
)


@given(ranks=ranks_on_nodes)
def test_any_nodes_have_the_bits_of_one_and_each_sum_leaves_a_node_once(
    ranks: list[tuple[int, int]],
) -> None:
    nodes, counts = zip(*ranks, strict=True)
    size, numel = len(nodes), sum(counts)
    rng = np.random.default_rng(numel)
    given = rng.standard_normal((size, numel)).astype(np.float32)
    whole = tree_sum_rows(given.copy())

    def body(comm: Communicator) -> tuple[Counter[tuple[int, int]], ...]:
        route, summing, gathering = Route(nodes, comm.rank), Pairs(comm), Pairs(comm)
        first = sum(counts[: comm.rank])
        own = slice(first, first + counts[comm.rank])
        part = route.reduce_scatter(summing, given[comm.rank].copy(), counts)
        assert part.tobytes() == whole[own].tobytes()
        joined = np.full(numel, np.nan, np.float32)
        joined[own] = part
        route.all_gather(gathering, joined, counts)
        assert joined.tobytes() == whole.tobytes()
        return summing.sent, gathering.sent

    found = run_threads(size, body)
    for node in set(nodes):
        members = [rank for rank, each in enumerate(nodes) if each == node]
        outside = [rank for rank in range(size) if rank not in members]
        sums, parts = (
            sum(sent[kind][rank, to] for rank, sent in enumerate(found)
                if rank in members for to in outside)
            for kind in (0, 1)
        )  # fmt: skip
        num_blocks = len(subtrees(members, size))
        assert sums == num_blocks * sum(counts[rank] for rank in outside)
        own = sum(counts[rank] for rank in members)
        assert parts == own * (len(set(nodes)) - 1)


@pytest.mark.parametrize(
    ("nodes", "is_routed"),
    [((0, 0, 0), False), ((0, 1, 2), False), ((0, 0, 1), True), ((0, 0, 1, 1), True)],
)
def test_only_an_axis_across_nodes_of_several_ranks_takes_more_stages(
    nodes: tuple[int, ...], is_routed: bool
) -> None:
    def body(comm: Communicator) -> int:
        ledger = Ledger(comm)
        axis = Axis(Mesh(model=comm.size), "model", comm.rank, ledger, nodes=nodes)
        axis.all_reduce(np.ones(3, np.float32), "here")
        return ledger.calls["all_to_all"]

    assert set(run_threads(len(nodes), body)) == {4 if is_routed else 1}


@pytest.mark.parametrize("which", NETS)
def test_nodes_change_no_bit_of_cut_cells(which: str) -> None:
    def body(comm: Communicator) -> set[str]:
        return {
            train(comm, level, mesh_of(which, per_node), which=which).hash
            for per_node, level in ((4, 0), (2, 2))
        }

    with threadpool_limits(1, "blas"):  # four ranks share the cores
        assert len(set.union(*run_threads(4, body))) == 1
