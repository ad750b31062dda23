"""Names for the ranks: axes and coordinates, groups along axes, nodes.

A mesh is a name space, not a communicator: it opens nothing and knows no rank of its
own. Every question but the listing of a group is answered in closed form.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parallel_params.errors import PlanError
from parallel_params.plan.number_checks import check_whole_number
from parallel_params.plan.text import did_you_mean


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Mesh:
    """The world as a grid of named axes; the last axis runs fastest, as in C order.

    Attributes:
        axes: Names, outermost first.
        sizes: Ranks along each axis.
        ranks_per_node: Consecutive ranks that share a node; all of them by default.
        layerwise_axis: The axis along which a layerwise-parallel parameter differs:
            `model` if there is one, else the only axis, else none.
        batch_axes: The axes that cut the global batch into shares; ranks that differ
            along the others see the same samples. By default all but `model`.

    Examples:
        >>> mesh = Mesh({"data": 2, "model": 3})
        >>> mesh.coordinate(4), mesh.rank((1, 1)), mesh.group(4, ("data",))
        ((1, 1), 4, (1, 4))
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    ranks_per_node: int
    layerwise_axis: str | None
    batch_axes: tuple[str, ...]

    def __init__(
        self,
        axes: Mapping[str, int] | None = None,
        *,
        ranks_per_node: int | None = None,
        layerwise_axis: str | None = None,
        batch_axes: Sequence[str] | None = None,
        **named_axes: int,
    ) -> None:
        """Name the axes, as a mapping or as keywords: `Mesh(data=4)`.

        Raises:
            PlanError: no axis, an axis of no rank, an unknown `layerwise_axis` or one
                among `batch_axes`.
        """
        sizes = {**(axes or {}), **named_axes}
        if not sizes:
            raise PlanError("a mesh needs an axis, for example Mesh(data=4)")
        for name, num_ranks in sizes.items():
            if not name.isidentifier():
                raise PlanError(f"mesh axis {name!r}: expected a name such as 'data'")
            check_whole_number(num_ranks, f"mesh axis {name!r}", least=1)
        object.__setattr__(self, "axes", tuple(sizes))
        object.__setattr__(self, "sizes", tuple(sizes.values()))
        per_node = self.size if ranks_per_node is None else ranks_per_node
        check_whole_number(per_node, "mesh.ranks_per_node", least=1)
        object.__setattr__(self, "ranks_per_node", per_node)
        if layerwise_axis is None and ("model" in sizes or len(sizes) == 1):
            layerwise_axis = "model" if "model" in sizes else self.axes[0]
        if layerwise_axis is not None:
            self._check_axes((layerwise_axis,))
        object.__setattr__(self, "layerwise_axis", layerwise_axis)
        if batch_axes is None:
            batch_axes = [axis for axis in self.axes if axis != "model"]
        self._check_axes(batch_axes)
        ordered = tuple(axis for axis in self.axes if axis in batch_axes)
        object.__setattr__(self, "batch_axes", ordered)

    @property
    def size(self) -> int:
        """Number of ranks in the world."""
        return math.prod(self.sizes)

    @property
    def num_nodes(self) -> int:
        """Number of nodes; the last one may be partly used."""
        return -(-self.size // self.ranks_per_node)

    @property
    def num_shares(self) -> int:
        """Number of parts of the global batch: ranks that see different samples."""
        return self.group_size(self.batch_axes)

    def share_index(self, rank: int) -> int:
        """Return which part of the global batch a rank sees."""
        return self.position(rank, self.batch_axes)

    def node(self, rank: int) -> int:
        """Return the node of a rank."""
        self._check_rank(rank)
        return rank // self.ranks_per_node

    def coordinate(self, rank: int) -> tuple[int, ...]:
        """Return where a rank lies, one number per axis."""
        self._check_rank(rank)
        return _unravel(rank, self.sizes)

    def rank(self, coordinate: Sequence[int]) -> int:
        """Return the rank at a coordinate.

        Raises:
            PlanError: the coordinate lies outside of the mesh.
        """
        inside = len(coordinate) == len(self.sizes) and all(
            0 <= index < num_ranks
            for index, num_ranks in zip(coordinate, self.sizes, strict=True)
        )
        if not inside:
            raise PlanError(f"no rank at {tuple(coordinate)} of {self!r}")
        return _ravel(coordinate, self.sizes)

    def others(self, axes: Sequence[str]) -> tuple[str, ...]:
        """Return the remaining axes, in mesh order."""
        self._check_axes(axes)
        return tuple(axis for axis in self.axes if axis not in axes)

    def group_size(self, axes: Sequence[str]) -> int:
        """Return how many ranks a group along `axes` has."""
        if axes == self.axes:
            return self.size
        self._check_axes(axes)
        return math.prod(self._sizes_of(axes))

    def position(self, rank: int, axes: Sequence[str]) -> int:
        """Return the place of a rank in its group along `axes`, in mesh order."""
        if axes == self.axes:  # nearly always, and asked for every bucket
            self._check_rank(rank)
            return rank
        return self._index_along(rank, axes)

    def slice_index(self, rank: int, axes: Sequence[str]) -> int:
        """Return which of the groups along `axes` a rank belongs to."""
        return self._index_along(rank, self.others(axes))

    def member(self, axes: Sequence[str], *, position: int, slice_index: int) -> int:
        """Return the rank at a place of a group: the inverse of the two above."""
        others = self.others(axes)
        along = [axis for axis in self.axes if axis in axes]
        place = dict(zip(along, _unravel(position, self._sizes_of(axes)), strict=True))
        place |= zip(others, _unravel(slice_index, self._sizes_of(others)), strict=True)
        return self.rank([place[axis] for axis in self.axes])

    def group(self, rank: int, axes: Sequence[str]) -> tuple[int, ...]:
        """Return the ranks that differ from `rank` along `axes` alone, in mesh order.

        Without axes that is the rank itself, with all axes the world.
        """
        if axes == self.axes:
            self._check_rank(rank)
            return tuple(range(self.size))
        own = self.slice_index(rank, axes)
        return tuple(
            self.member(axes, position=position, slice_index=own)
            for position in range(self.group_size(axes))
        )

    def is_on_one_node(self, rank: int, axes: Sequence[str]) -> bool:
        """Tell whether the group of a rank along `axes` lies on one node."""
        own, last = self.slice_index(rank, axes), self.group_size(axes) - 1
        ends = (
            self.member(axes, position=position, slice_index=own)
            for position in (0, last)
        )
        return len({self.node(end) for end in ends}) == 1

    def _index_along(self, rank: int, axes: Sequence[str]) -> int:
        self._check_axes(axes)
        place = zip(self.axes, self.coordinate(rank), strict=True)
        return _ravel(
            [index for axis, index in place if axis in axes], self._sizes_of(axes)
        )

    def _sizes_of(self, axes: Sequence[str]) -> list[int]:
        both = zip(self.axes, self.sizes, strict=True)
        return [num_ranks for axis, num_ranks in both if axis in axes]

    def _check_axes(self, axes: Sequence[str]) -> None:
        for axis in axes:
            if axis not in self.axes:
                raise PlanError(
                    f"{self!r} has no axis {axis!r}. {did_you_mean(axis, self.axes)}"
                )

    def _check_rank(self, rank: int) -> None:
        if not 0 <= rank < self.size:
            raise PlanError(f"rank {rank} is outside of {self!r} of {self.size} ranks")

    def __repr__(self) -> str:
        both = zip(self.axes, self.sizes, strict=True)
        return f"Mesh({', '.join(f'{axis}={number}' for axis, number in both)})"


def _ravel(coordinate: Sequence[int], sizes: Sequence[int]) -> int:
    flat = 0
    for index, num_ranks in zip(coordinate, sizes, strict=True):
        flat = flat * num_ranks + index
    return flat


def _unravel(flat: int, sizes: Sequence[int]) -> tuple[int, ...]:
    coordinate = []
    for num_ranks in reversed(sizes):
        flat, index = divmod(flat, num_ranks)
        coordinate.append(index)
    return tuple(reversed(coordinate))
