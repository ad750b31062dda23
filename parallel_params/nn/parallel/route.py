"""How sums and gathers along an axis go where it crosses nodes: little between them.

For every rank, one rank of each node speaks for it there. It adds what its node has for
that rank, and only the sum crosses the cable; it takes what that rank gives to all,
once, and hands it on inside. All of it is sent by `all_to_all`, whose counts leave no
choice to the MPI library: they say what crosses, and sums keep the order of one node.

Source: Karonis et al., Exploiting hierarchy in parallel computer networks to optimize
collective operation performance (2000), for what leaves a node once; keeping the order
of the sums is ours.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from parallel_params.comm.buffers import offsets_of
from parallel_params.comm.protocol import Communicator
from parallel_params.tensor.row_sums import tree_sum_rows
from parallel_params.tensor.tape import Array


class Route:
    """One rank's part in collectives that go inside of nodes first.

    Args:
        nodes: of each rank along the axis, by any number.
        index: this rank's position on the axis.
    """

    def __init__(self, nodes: Sequence[int], index: int) -> None:
        self._index, self._size = index, len(nodes)
        self._nodes = {
            node: [rank for rank, each in enumerate(nodes) if each == node]
            for node in dict.fromkeys(nodes)
        }
        self._local = self._nodes[nodes[index]]
        # Who speaks on this rank's node, for each rank; a rank of the node for itself.
        inside = [
            self._speaker(nodes[rank], rank, self._local) for rank in range(self._size)
        ]
        self._spoken = {
            rank: [each for each, by in enumerate(inside) if by == rank]
            for rank in self._local
        }
        # Who speaks for this rank on each of the other nodes.
        self._outside = {
            self._speaker(nodes[index], index, members): node
            for node, members in self._nodes.items()
            if node != nodes[index]
        }

    def reduce_scatter(
        self, comm: Communicator, send: Array, counts: Sequence[int]
    ) -> Array:
        """Return this rank's part of the sum, added in the order of `tree_sum_rows`.

        Args:
            comm: the ranks along the axis.
            send: [sum(counts)] what this rank brings.
            counts: elements of each rank's part.

        Collective: the ranks along the axis, and so is the method below.
        """
        pieces = _cut(send, counts)
        spoken = self._spoken[self._index]
        numels = [counts[rank] for rank in spoken]
        brought = self._exchange(
            comm,
            {
                by: [pieces[rank] for rank in ranks]
                for by, ranks in self._spoken.items()
            },
            dict.fromkeys(self._local, sum(numels)),
            send.dtype,
        )
        own = counts[self._index]
        sums: dict[int, Array] = {}
        outgoing: dict[int, list[Array]] = {rank: [] for rank in spoken}
        for first, last in subtrees(self._local, self._size):
            rows = np.stack([brought[rank] for rank in range(first, last)])
            for rank, part in zip(
                spoken, _cut(tree_sum_rows(rows), numels), strict=True
            ):
                outgoing[rank].append(part)
            sums[first] = outgoing[self._index][-1]
        del outgoing[self._index]
        blocks = {
            by: subtrees(self._nodes[node], self._size)
            for by, node in self._outside.items()
        }
        came = self._exchange(
            comm, outgoing, {by: own * len(b) for by, b in blocks.items()}, send.dtype
        )
        for by, ranges in blocks.items():
            parts = _cut(came[by], [own] * len(ranges))
            sums |= zip((first for first, _ in ranges), parts, strict=True)
        return _sum_subtrees(sums, self._size)

    def all_gather(
        self, comm: Communicator, buffer: Array, counts: Sequence[int]
    ) -> None:
        """Complete `buffer` in place from the part that each rank has filled.

        Args:
            comm: the ranks along the axis.
            buffer: [sum(counts)] with this rank's part in its place.
            counts: elements of each rank's part.
        """
        pieces = _cut(buffer, counts)
        spoken = self._spoken[self._index]
        others = [rank for rank in spoken if rank != self._index]
        came = self._exchange(
            comm,
            {by: [pieces[self._index]] for by in self._outside},
            {rank: counts[rank] for rank in others},
            buffer.dtype,
        )
        for rank, part in came.items():
            pieces[rank][:] = part
        beside = [rank for rank in self._local if rank != self._index]
        came = self._exchange(
            comm,
            {rank: [pieces[each] for each in spoken] for rank in beside},
            {by: sum(counts[each] for each in self._spoken[by]) for by in beside},
            buffer.dtype,
        )
        for by, parts in came.items():
            ranks = self._spoken[by]
            for rank, part in zip(
                ranks, _cut(parts, [counts[each] for each in ranks]), strict=True
            ):
                pieces[rank][:] = part

    def _speaker(self, node: int, rank: int, members: Sequence[int]) -> int:
        """Return which of `members` speaks for a rank of `node`."""
        return members[self._nodes[node].index(rank) % len(members)]

    def _exchange(
        self,
        comm: Communicator,
        sent: Mapping[int, Sequence[Array]],
        numels: Mapping[int, int],
        dtype: np.dtype[np.generic],
    ) -> dict[int, Array]:
        """Send arrays to some ranks; return what came from others, so many elements."""
        ranks = range(self._size)
        parts = [part for rank in ranks for part in sent.get(rank, ())]
        send_counts = [sum(part.size for part in sent.get(rank, ())) for rank in ranks]
        recv_counts = [numels.get(rank, 0) for rank in ranks]
        send = np.concatenate(parts) if parts else np.empty(0, dtype)
        recv = np.empty(sum(recv_counts), dtype)
        comm.all_to_all(send, send_counts, recv, recv_counts)
        came = _cut(recv, recv_counts)
        return {rank: came[rank] for rank in numels}


def route_over(nodes: Sequence[int], index: int) -> Route | None:
    """Return the way over nodes; None where ranks may as well send to each other.

    That is inside of one node, and where every rank has a node of its own: then what is
    sent from rank to rank is what crosses.

    Args:
        nodes: of each rank along the axis.
        index: this rank's position on the axis.
    """
    num_nodes = len(set(nodes))
    return Route(nodes, index) if 1 < num_nodes < len(nodes) else None


def subtrees(ranks: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Return the largest subtrees, of the tree over `size` rows, that some ranks have.

    Args:
        ranks: ascending.
        size: rows of the whole tree.

    Returns:
        The first row and the one behind the last row of each, ascending.

    Examples:
        >>> subtrees([0, 1, 2], 6), subtrees([3, 4, 5], 6)
        ([(0, 2), (2, 3)], [(3, 4), (4, 6)])
    """
    there, found, first = set(ranks), [], ranks[0]
    for rank in ranks:
        if rank < first:
            continue
        width = 1
        while rank % (2 * width) == 0 and width < size:
            if not there.issuperset(range(rank, min(rank + 2 * width, size))):
                break
            width *= 2
        first = min(rank + width, size)
        found.append((rank, first))
    return found


def _sum_subtrees(sums: dict[int, Array], size: int) -> Array:
    """Add the sums of subtrees, by their first rows, as `tree_sum_rows` adds rows."""
    stride = 1
    while stride < size:
        for left in range(0, size, 2 * stride):
            if left + stride in sums:
                sums[left] = sums[left] + sums.pop(left + stride)
        stride *= 2
    return sums[0]


def _cut(array: Array, counts: Sequence[int]) -> list[Array]:
    starts = offsets_of(counts)
    return [array[first:last] for first, last in pairwise(starts)]
