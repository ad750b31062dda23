"""One axis of a mesh as a rank sees it: where it stands, and what is sent along it.

Sums are made in one fixed order, so a run repeats its bits. That the ranks are in the
same collective is made sure of in front of each (`rendezvous.py`). Where an axis
crosses nodes, sums and gathers go inside of these first (`route.py`).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from parallel_params.comm.agree import agree_same
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanError
from parallel_params.nn.parallel.rendezvous import Rendezvous
from parallel_params.nn.parallel.route import route_over
from parallel_params.plan.interval import even_split
from parallel_params.plan.mesh import Mesh
from parallel_params.tensor.row_sums import tree_sum_rows
from parallel_params.tensor.tape import Array


class Axis:
    """A rank's place on one axis of a mesh, and the collectives along it.

    Make one with `open_axis`, or without any communication with `Axis`, which is enough
    to build a model and to plan it. One that was opened is closed by `close` or `with`.

    Args:
        mesh: names the axes.
        name: of the axis.
        rank: in the world.
        comm: the ranks along the axis, in mesh order; None if nothing will be sent.
        nodes: of each rank along the axis; by default those of the mesh.

    Attributes:
        mesh: as given.
        name: as given.
        index: this rank's position along the axis.
        size: ranks along the axis.
        ranks: of the world, along the axis, this one among them.
        nodes: of each of them, as numbers that are equal where memory is shared.
        rendezvous: where they make sure that they do the same.

    Raises:
        PlanError: the mesh has no such axis, or no such rank.
    """

    def __init__(
        self,
        mesh: Mesh,
        name: str,
        rank: int = 0,
        comm: Communicator | None = None,
        *,
        nodes: Sequence[int] | None = None,
    ) -> None:
        self.mesh, self.name = mesh, name
        self.size = mesh.group_size((name,))
        self.index = mesh.position(rank, (name,))
        self.ranks = mesh.group(rank, (name,))
        self.nodes = tuple(nodes or (mesh.node(each) for each in self.ranks))
        self.rendezvous = Rendezvous(comm, name, self.ranks, self.index)
        self._route = route_over(self.nodes, self.index)

    def close(self) -> None:
        """Free the communicator of an axis that was opened; it sends nothing any more.

        Cells that are cut along it keep their weights. Without `close` the communicator
        lives until MPI ends, and MPICH has room for about 2000 of them. At the end of a
        `with` block an axis is closed as well, unless something was raised inside.

        Collective: the ranks along the axis.
        """
        self.rendezvous.close()

    def __enter__(self) -> "Axis":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # else the others may be anywhere, and freeing could hang
            self.close()

    @property
    def cuts_batch(self) -> bool:
        """Whether ranks along the axis see different samples."""
        return self.name in self.mesh.batch_axes

    def part_of(self, length: int, what: str) -> slice:
        """Return this rank's part of a dim that is cut into equal parts.

        Args:
            length: of the whole dim.
            what: names the dim in the error.

        Raises:
            PlanError: the parts would not be equal.
        """
        if length % self.size:
            below = length - length % self.size
            near = [str(n) for n in (below, below + self.size) if n]
            sizes = [n for n in range(1, length + 1) if length % n == 0]
            raise PlanError(
                f"{what} = {length} cannot be cut into {self.size} equal parts along "
                f"axis {self.name!r} of {self.mesh!r}. Use {' or '.join(near)}, or an "
                f"axis of {listed(sizes)} ranks"
            )
        part = length // self.size
        return slice(self.index * part, (self.index + 1) * part)

    # ---- collectives; `what` names the operator for errors

    def all_reduce(self, array: Array, what: str) -> Array:
        """Return the sum of the ranks' arrays, in a fixed order; 16 bits in float32.

        Args:
            array: the same shape and type on every rank; only read.
            what: names the operator in errors.

        Raises:
            RankFailed: a rank gave up.
            PlanMismatch: the ranks are in different operators, or shapes differ.

        Collective: the ranks along the axis, and so is every method below.
        """
        if self.size == 1:
            return array
        comm = self._meet(what, array)
        pieces = even_split(array.size, self.size)
        counts = [piece.numel for piece in pieces]
        own = self._sum_pieces(comm, np.ascontiguousarray(array).reshape(-1), counts)
        out = np.empty(array.size, array.dtype)
        out[pieces[self.index].as_slice()] = own
        self._gather(comm, out, counts)
        whole: Array = out.reshape(array.shape)
        return whole

    def all_gather(self, array: Array, dim: int, what: str) -> Array:
        """Return the ranks' arrays, joined along `dim`, equally long on every rank."""
        if self.size == 1:
            return array
        comm = self._meet(what, array, dim)
        parts = np.empty((self.size, array.size), array.dtype)
        parts[self.index] = array.reshape(-1)
        self._gather(comm, parts.reshape(-1), (array.size,) * self.size)
        whole: Array = np.concatenate(list(parts.reshape(self.size, *array.shape)), dim)
        return whole

    def reduce_scatter(self, array: Array, dim: int, what: str) -> Array:
        """Return this rank's part along `dim` of the sum of the ranks' arrays."""
        if self.size == 1:
            return array
        comm = self._meet(what, array, dim)
        self.part_of(array.shape[dim], f"{what}: dim {dim}")
        parts = np.stack(np.split(array, self.size, dim))
        own = self._sum_pieces(comm, parts.reshape(-1), (parts[0].size,) * self.size)
        part: Array = own.astype(array.dtype, copy=False).reshape(parts[0].shape)
        return part

    def maximum(self, array: Array, what: str) -> Array:
        """Return the largest of the ranks' elements, one by one."""
        if self.size == 1:
            return array
        parts = self.all_gather(np.ascontiguousarray(array)[np.newaxis], 0, what)
        largest: Array = parts.max(0)
        return largest

    def all_to_all(self, rows: Array, counts: Sequence[int], what: str) -> Array:
        """Send `counts[r]` rows to each rank; return what came, rank after rank.

        Args:
            rows: [sum(counts), ...] in the order of the ranks.
            counts: rows for each rank, and from each: the same on every rank.
            what: names the operator in errors.
        """
        if self.size == 1:
            return rows
        comm = self._meet(what, rows)
        width = math.prod(rows.shape[1:])
        numels = [count * width for count in counts]
        out = np.empty(rows.shape, rows.dtype)
        send = np.ascontiguousarray(rows).reshape(-1)
        comm.all_to_all(send, numels, out.reshape(-1), numels)
        return out

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Have all ranks of the axis leave this block together, or all raise.

        A pass over cells that are cut along the axis belongs in one: a rank that raises
        inside tells the others, which raise `RankFailed` at their next collective. A
        `ParameterManager` does that around every grain; a pass outside of one, an
        evaluation for instance, needs it for the same reason.

        Raises:
            RankFailed: another rank raised.

        Collective: the ranks along the axis.
        """
        self.rendezvous.begin()
        try:
            yield
        except Exception:
            self.rendezvous.give_up()
            self.rendezvous.end()
            raise
        other = self.rendezvous.end()
        if other is not None:
            raise other

    def _sum_pieces(
        self, comm: Communicator, send: Array, counts: Sequence[int]
    ) -> Array:
        wide = send if send.itemsize > 2 else send.astype(np.float32)
        if self._route is not None:
            return self._route.reduce_scatter(comm, wide, counts)
        own = counts[self.index]
        rows = np.empty(self.size * own, wide.dtype)
        comm.all_to_all(wide, counts, rows, (own,) * self.size)
        return tree_sum_rows(rows.reshape(self.size, own))

    def _gather(self, comm: Communicator, out: Array, counts: Sequence[int]) -> None:
        if self._route is None:
            comm.all_gather(out, counts)
        else:
            self._route.all_gather(comm, out, counts)

    def _meet(self, what: str, array: Array, dim: int = 0) -> Communicator:
        return self.rendezvous.meet(f"{what} of {array.shape} {array.dtype}, dim {dim}")


def open_axis(comm: Communicator, mesh: Mesh, name: str = "model") -> Axis:
    """Open the communicator of one axis of a mesh.

    Args:
        comm: all ranks of the mesh.
        mesh: names them.
        name: of the axis.

    Returns:
        An axis to close with `Axis.close`, or to take as a `with` block.

    Raises:
        PlanError: the mesh has another number of ranks, or no such axis; on all ranks.
        PlanMismatch: the ranks name different meshes or axes.

    Collective: all ranks.
    """
    own = f"{mesh!r} by {mesh.layerwise_axis}, {mesh.batch_axes}, axis {name!r}"
    agree_same(comm, own, "the mesh")
    if mesh.size != comm.size:
        raise PlanError(
            f"{mesh!r} has {mesh.size} ranks, the world has {comm.size}; the product "
            "of the axes must be the number of ranks"
        )
    ranks = mesh.group(comm.rank, (name,))
    # Its own even where the axis is the world: a rank that gives up speaks here while
    # the others wait for it in the collectives of a step.
    group = comm.group(ranks) if len(ranks) > 1 else None
    first = comm.node_ranks()[0]
    nodes = None
    if group is not None:  # as they are, and no larger than the mesh says
        found = [int(text) for text in group.all_gather_bytes(b"%d" % first)]
        both = list(zip(found, map(mesh.node, ranks), strict=True))
        nodes = [both.index(each) for each in both]
    return Axis(mesh, name, comm.rank, group, nodes=nodes)


def listed(numbers: Sequence[object]) -> str:
    """Write numbers in a row, the first ones if there are many."""
    names = [str(number) for number in numbers]
    return ", ".join([*names[:6], "..."] if len(names) > 7 else names)
