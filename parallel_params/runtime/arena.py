"""The memory behind a bucket on one rank; parameters are views of it.

Weights and gradients that a node shares lie in its windows, see `node_memory.py`; the
rest is this rank's own: partial sums of earlier grains, the reduced interval, optimizer
state. An arena neither communicates nor updates anything.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from parallel_params.comm.pages import reserve, zeros_in_pages
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.rule import state_dtype
from parallel_params.plan.bucket import Extent
from parallel_params.plan.interval import Interval
from parallel_params.plan.memory import NUM_SLOTS
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.runtime.role import Role
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array


class Arena:
    """Weights, gradients and optimizer state of one bucket on one rank.

    Args:
        role: what this rank does for the bucket.
        node: the windows of its node.
        parameters: by name; those of the bucket become views of the arena.
        num_grains: of this rank.

    Attributes:
        weight: [numel] what the parameters are views of.
        updated_weight: [updated numel] what the optimizer writes.
        peers: per slot, the gradients [numel] of the group's members on this node; one
            slot, or those through which streamed buckets pass.
        partials: sums of earlier grains, [numel] each.
        own_reduced: [own numel] where the sum of the owned interval is put.
        reduced: [updated numel] the gradient that the optimizer reads and may spoil.
        node_reduced: [numel] the node's buffer of a whole bucket, or None.
        state: slot -> [updated numel] in the rule's state dtype, zeros at first.
        extra_state: parameter name -> slot -> state by row or column.
    """

    def __init__(
        self,
        role: Role,
        node: NodeMemory,
        parameters: Mapping[str, Parameter],
        *,
        num_grains: int,
    ) -> None:
        bucket = role.bucket
        self.role, self.bucket, self.updated = role, bucket, role.updated
        self.dtype = dtype_named(bucket.dtype).numpy
        self.parameters = tuple(parameters[e.name] for e in bucket.extents)
        self.weight = self._make_weight(node)
        self.updated_weight: Array = (
            np.empty(role.own.numel, self.dtype)
            if role.is_gathered
            else self.weight[role.updated.as_slice()]
        )
        self._make_gradients(node, num_grains)
        self._make_state()

    def load_weights(self) -> None:
        """Write what this rank owns of the parameters' values, and take them over.

        Where the node shares weights, its ranks must hand over afterwards.
        """
        role = self.role
        parts: Sequence[Interval] = [Interval(0, self.bucket.numel)]
        if role.is_gathered:
            self._fill_shard()
            parts = []
        elif role.has_shared_weight:
            parts = role.lane
        for extent, parameter in zip(self.bucket.extents, self.parameters, strict=True):
            view = self.view(self.weight, extent, parameter.shape)
            wanted = [
                part.intersect(extent.interval).shift(-extent.interval.start)
                for part in parts
                if not part.intersect(extent.interval).is_empty
            ]
            is_own = not (role.has_shared_weight or role.is_gathered)
            parameter.rebind(view, None if is_own else wanted)
        self.refresh_master()

    def refresh_master(self) -> None:
        """Take the weights for the exact ones that low precision is rounded from."""
        if MASTER_WEIGHT in self.state:
            np.copyto(self.state[MASTER_WEIGHT], self.updated_weight, casting="unsafe")

    def load_state(self, values: Mapping[str, Mapping[str, Array]]) -> None:
        """Copy this rank's interval of optimizer state that exists already.

        Args:
            values: slot -> parameter name -> array in the parameter's shape.
        """
        for slot, target in self.state.items():
            known = values.get(slot, {})
            for extent in self.bucket.extents:
                part = extent.interval.intersect(self.updated)
                if extent.name in known and not part.is_empty:
                    source = known[extent.name].reshape(-1)
                    target[part.shift(-self.updated.start).as_slice()] = source[
                        part.shift(-extent.interval.start).as_slice()
                    ]
        for name, extra in self.extra_state.items():
            extent = next(e for e in self.bucket.extents if e.name == name)
            part = extent.interval.intersect(self.updated)
            first = (part.start - extent.interval.start) // max(1, extent.row_numel)
            for slot, target in extra.items():
                if name in values.get(slot, {}):
                    source = values[slot][name].reshape(-1)
                    start = first if slot in self.bucket.row_slots else 0
                    target[...] = source[start : start + target.size]

    def view(self, flat: Array, extent: Extent, shape: tuple[int, ...]) -> Array:
        """Return one parameter's part of a buffer [numel], in its shape."""
        part: Array = flat[extent.interval.as_slice()].reshape(shape)
        return part

    def views(self, flat: Array) -> list[Array]:
        """Return every parameter's part of a buffer [numel], in its shape."""
        return [
            self.view(flat, extent, parameter.shape)
            for extent, parameter in zip(
                self.bucket.extents, self.parameters, strict=True
            )
        ]

    @property
    def gradient(self) -> Array:
        """[numel] this rank's gradient, for a bucket that is not streamed."""
        own: Array = self.peers[0][self.role.local]
        return own

    def _make_weight(self, node: NodeMemory) -> Array:
        role = self.role
        if role.has_shared_weight:
            return node.weight(role)
        if role.is_gathered:
            pages: Array = reserve(self.bucket.weight_bytes).view(self.dtype)
            return pages
        return zeros_in_pages(self.bucket.numel, self.dtype)

    def _make_gradients(self, node: NodeMemory, num_grains: int) -> None:
        role, numel = self.role, self.bucket.numel
        self.peers: tuple[tuple[Array, ...], ...] = ()
        self.partials: tuple[Array, ...] = ()
        self.node_reduced: Array | None = None
        if not self.bucket.is_trainable:
            self.own_reduced = self.reduced = np.empty(0, self.dtype)
            return
        num_partials = num_grains.bit_length() - 1
        if role.is_streamed:
            num_partials = (num_grains - 1).bit_length()
            self.own_reduced = self.reduced = np.zeros(role.own.numel, self.dtype)
            if role.num_local > 1:
                self.peers = tuple(node.slots(role, i) for i in range(NUM_SLOTS))
        else:
            if role.num_local > 1:
                self.peers = (node.gradients(role),)
            else:
                self.peers = ((np.zeros(numel, self.dtype),),)
            whole = self.gradient
            own = role.own.as_slice()
            self.own_reduced, self.reduced = whole[own], whole[role.updated.as_slice()]
            if role.needs_reduced:
                self.node_reduced = node.reduced(role)
                self.own_reduced = self.node_reduced[own]
        self.partials = tuple(np.zeros(numel, self.dtype) for _ in range(num_partials))

    def _make_state(self) -> None:
        bucket, dtype = self.bucket, state_dtype(self.dtype)
        self.state: dict[str, Array] = {
            slot: zeros_in_pages(self.updated.numel, dtype)
            for slot in bucket.state_slots
        }
        self.extra_state: dict[str, dict[str, Array]] = {}
        for extent in bucket.extents:
            part = extent.interval.intersect(self.updated)
            if part.is_empty or not bucket.is_trainable:
                continue
            row_numel = max(1, extent.row_numel)
            self.extra_state[extent.name] = {
                slot: np.zeros(part.numel // row_numel, dtype)
                for slot in bucket.row_slots
            } | {slot: np.zeros(row_numel, dtype) for slot in bucket.column_slots}

    def _fill_shard(self) -> None:
        own = self.role.own
        for extent, parameter in zip(self.bucket.extents, self.parameters, strict=True):
            part = extent.interval.intersect(own)
            if not part.is_empty:
                parameter.copy_part(
                    part.start - extent.interval.start,
                    self.updated_weight[part.shift(-own.start).as_slice()],
                )
