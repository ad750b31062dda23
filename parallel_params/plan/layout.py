"""Who holds which interval of which bucket, in which group, on which node.

Everything that follows from a plan's buckets, mesh and policy about places. What moves
between them in a step, and when, is added in `plan.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from parallel_params.errors import PlanError
from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.interval import EMPTY, Interval
from parallel_params.plan.lattice import Lattice, lattice_of
from parallel_params.plan.leaves import (
    count_nodes_of_all,
    leaf_range,
    num_leaves,
    tree_nodes,
)
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Kind, Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.plan.text import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parameters in buckets on a mesh: the holders of every element.

    Attributes:
        params: In declaration order.
        mesh: The names of the ranks.
        policy: What the user chose.
        buckets: In the order in which gradients become ready.
    """

    params: tuple[ParamSpec, ...]
    mesh: Mesh
    policy: Policy
    buckets: tuple[Bucket, ...]
    _places: dict[str, tuple[ParamSpec, Bucket, Extent]] = field(
        init=False, repr=False, compare=False
    )
    _lattices: dict[tuple[str, ...], Lattice] = field(
        init=False, repr=False, compare=False
    )
    _lane_numels: dict[object, Sequence[int]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _num_nodes: dict[object, int] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        lies_in = {
            extent.name: (bucket, extent)
            for bucket in self.buckets
            for extent in bucket.extents
        }
        places = {
            name: (spec, *lies_in[spec.name])
            for spec in self.params
            for name in spec.names
        }
        lattices = {
            bucket.axes: lattice_of(self.mesh, bucket.axes, self.policy.transport)
            for bucket in self.buckets
        }
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_lattices", lattices)

    def spec(self, name: str) -> ParamSpec:
        """Return the parameter of a name or alias."""
        return self._place_of(name)[0]

    def bucket_of(self, name: str) -> Bucket:
        """Return the bucket of a parameter, by name or alias."""
        return self._place_of(name)[1]

    def extent_of(self, name: str) -> Extent:
        """Return where a parameter lies in its bucket, by name or alias."""
        return self._place_of(name)[2]

    def group(self, bucket: Bucket, rank: int) -> tuple[int, ...]:
        """Return the ranks that `bucket` is reduced over, as `rank` sees them."""
        return self.mesh.group(rank, bucket.axes)

    def group_size(self, bucket: Bucket) -> int:
        """Return how many ranks `bucket` is reduced over."""
        return self.mesh.group_size(bucket.axes)

    def lattice(self, bucket: Bucket) -> Lattice:
        """Return how the ranks of a bucket's group lie on nodes, the same for all."""
        return self._lattices[bucket.axes]

    def node_group(self, rank: int) -> tuple[int, ...]:
        """Return all ranks of the node of a rank."""
        per_node = self.mesh.ranks_per_node
        first = self.mesh.node(rank) * per_node
        return tuple(range(first, min(first + per_node, self.mesh.size)))

    def local_group(self, bucket: Bucket, rank: int) -> tuple[int, ...]:
        """Return the ranks of a bucket's group on the node of `rank`, in group order.

        That is the rank alone where the group only exchanges messages.
        """
        position = self.mesh.position(rank, bucket.axes)
        return self._members(bucket, rank, self.lattice(bucket).within(position))

    def cross_group(self, bucket: Bucket, rank: int) -> tuple[int, ...]:
        """Return the ranks of a bucket's group in the lane of `rank`, node by node."""
        position = self.mesh.position(rank, bucket.axes)
        return self._members(bucket, rank, self.lattice(bucket).across(position))

    def lane(self, bucket: Bucket, rank: int) -> tuple[Interval, ...]:
        """Return what each rank of `cross_group` owns: what `rank` sums on its node."""
        position = self.mesh.position(rank, bucket.axes)
        return tuple(
            self.owned_at(bucket, each)
            for each in self.lattice(bucket).across(position)
        )

    def lane_numel(self, bucket: Bucket, lane: int) -> int:
        """Return how many elements a lane owns on all nodes together."""
        known = self._lane_numels
        if bucket.index not in known:
            # Most models repeat a few shapes.
            shape, lattice = bucket.shape, self.lattice(bucket)
            if shape not in known:
                known[shape] = bucket.lane_numels(
                    lattice.size,
                    num_local=lattice.num_local,
                    alignment=self.policy.alignment,
                )
            known[bucket.index] = known[shape]
        return known[bucket.index][lane]

    def num_nodes_of(self, bucket: Bucket, rank: int) -> int:
        """Return how many subtrees of its parameters' leaves `rank` owns whole."""
        alignment, number = self.policy.alignment, 0
        for extent, part in bucket.parts_within(self.owned(bucket, rank)):
            leaves = leaf_range(bucket, extent, part, alignment)
            whole = num_leaves(bucket, extent, alignment)
            number += len(tree_nodes(leaves.start, leaves.stop, whole))
        return number

    def num_nodes_of_all(self, bucket: Bucket) -> int:
        """Return how many subtrees the owners of a bucket have together."""
        known, shape = self._num_nodes, bucket.shape
        if shape not in known:
            known[shape] = count_nodes_of_all(
                bucket, self.group_size(bucket), self.policy.alignment
            )
        return known[shape]

    def is_streamed(self, bucket: Bucket) -> bool:
        """Tell whether a bucket is reduced during the backward pass.

        Its gradient passes through one of two slots then, and an owner keeps its own
        interval of the sum.
        """
        is_cut = bucket.is_updated_in_parts and bucket.level.cuts(Kind.GRADIENT)
        return is_cut and self.group_size(bucket) > 1

    def is_gathered(self, bucket: Bucket) -> bool:
        """Tell whether the nodes hold parts of the weights, which are gathered."""
        return bucket.level.cuts(Kind.WEIGHT) and self.lattice(bucket).num_nodes > 1

    def is_windowed(self, bucket: Bucket, kind: Kind) -> bool:
        """Tell whether the ranks of a node keep `kind` in memory that they share.

        Weights that every rank updates by itself are its own; so is all state.
        """
        if self.lattice(bucket).num_local == 1 or kind is Kind.STATE:
            return False
        if kind is Kind.GRADIENT:
            return bucket.is_trainable
        return bucket.is_updated_in_parts or not bucket.is_trainable

    def intervals(self, bucket: Bucket) -> tuple[Interval, ...]:
        """Return what each position of the group owns of the buffer, in order."""
        return tuple(
            self.owned_at(bucket, position)
            for position in range(self.group_size(bucket))
        )

    def owned_at(self, bucket: Bucket, position: int) -> Interval:
        """Return what one position of the group owns of the buffer."""
        return bucket.owned(
            position, self.group_size(bucket), alignment=self.policy.alignment
        )

    def owned(self, bucket: Bucket, rank: int) -> Interval:
        """Return what `rank` owns of the buffer, at every level."""
        return self.owned_at(bucket, self.mesh.position(rank, bucket.axes))

    def held(self, bucket: Bucket, kind: Kind, rank: int) -> Interval:
        """Return what `rank` holds of `kind`: its own interval, or the whole buffer.

        Nothing, where the kind does not exist: gradients and state of frozen ones.
        """
        if kind is not Kind.WEIGHT and not bucket.is_trainable:
            return EMPTY
        if bucket.level.cuts(kind):
            return self.owned(bucket, rank)
        return Interval(0, bucket.numel)

    def _members(
        self, bucket: Bucket, rank: int, positions: Iterable[int]
    ) -> tuple[int, ...]:
        axes = bucket.axes
        if axes == self.mesh.axes:  # nearly always
            return tuple(positions)
        own = self.mesh.slice_index(rank, axes)
        return tuple(
            self.mesh.member(axes, position=position, slice_index=own)
            for position in positions
        )

    def _place_of(self, name: str) -> tuple[ParamSpec, Bucket, Extent]:
        if name not in self._places:
            raise PlanError(
                f"the plan has no parameter {name!r}. "
                + did_you_mean(name, self._places)
            )
        return self._places[name]
