"""Values that a user writes into parameters which several ranks, or copies, share.

Every rank of a node has the same memory behind such a parameter, so each writes only
what it owns, when nobody reads. That makes `set_data` of a managed parameter a
collective: all ranks call it, with the same values.
"""

from collections.abc import Sequence

from parallel_params.nn.storage import Storage
from parallel_params.plan.bucket import Extent
from parallel_params.plan.interval import Interval
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.tensor.tape import Array


class Writes:
    """Writes into arenas by the rule of owners.

    Args:
        node: the windows of this rank's node.
    """

    def __init__(self, node: NodeMemory) -> None:
        self._node = node
        self._places: dict[int, tuple[Arena, Extent]] = {}

    def watch(self, arena: Arena) -> None:
        """Let the parameters of an arena be written here."""
        for extent, parameter in zip(
            arena.bucket.extents, arena.parameters, strict=True
        ):
            self._places[id(parameter)] = arena, extent
            parameter.share(self._write)

    def _write(self, parameter: Storage, values: Array) -> None:
        """Write `values`, of the parameter's shape, where this rank is responsible.

        Collective: the ranks that share the parameter, with the same values.
        """
        arena, extent = self._places[id(parameter)]
        source = values.reshape(-1)
        if arena.role.has_shared_weight:
            self._node.hand_over_weights()
        for target, place in responsible_parts(arena, extent):
            target[...] = source[place]
        if arena.role.has_shared_weight:
            self._node.hand_over_weights()
        arena.refresh_master()


def responsible_parts(arena: Arena, extent: Extent) -> list[tuple[Array, slice]]:
    """Return the memory of a parameter that this rank writes, part by part.

    Returns:
        Views of the arena, and which elements of the parameter, in C order, they are.
    """
    role, interval = arena.role, extent.interval
    memory, first = arena.weight, 0
    owned: Sequence[Interval] = (interval,)
    if role.is_gathered:
        memory, first = arena.updated_weight, role.own.start
        owned = (role.own,)
    elif role.has_shared_weight:
        owned = role.lane
    parts = [each.intersect(interval) for each in owned]
    return [
        (memory[part.shift(-first).as_slice()], part.shift(-interval.start).as_slice())
        for part in parts
        if not part.is_empty
    ]
