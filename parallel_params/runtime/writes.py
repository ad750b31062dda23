"""Values that a user writes into parameters which several ranks, or copies, share.

Every rank of a node has the same memory behind such a parameter, so each writes only
what it owns, when nobody reads. That makes `set_data` of a managed parameter a
collective: all ranks call it, with the same values, which are compared before anything
is written. What is a rank's own alone it writes alone.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from parallel_params.comm.agree import agree_ok, first_difference
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanMismatch
from parallel_params.nn.storage import Storage
from parallel_params.plan.bucket import Extent
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.tensor.tape import Array


class Writes:
    """Writes into arenas by the rule of owners.

    Args:
        plan: says who has copies of what.
        comm: all ranks.
        node: the windows of this rank's node.
    """

    def __init__(self, plan: Plan, comm: Communicator, node: NodeMemory) -> None:
        self._plan, self._comm, self._node = plan, comm, node
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

        Raises:
            PlanMismatch: not all ranks write the same; nothing was written.

        Collective: all ranks, unless the values are this rank's alone.
        """
        arena, extent = self._places[id(parameter)]
        source = values.reshape(-1).astype(arena.dtype, copy=False)
        if arena.role.num_ranks > 1:
            mesh, axes = self._plan.mesh, arena.bucket.axes
            groups = [mesh.slice_index(rank, axes) for rank in range(mesh.size)]
            _agree_on_write(self._comm, extent.name, source, groups)
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


def _agree_on_write(
    comm: Communicator, name: str, values: Array, groups: Sequence[object]
) -> None:
    """Raise on every rank unless all are about to write the same values.

    The message is that of `Status`: a rank that takes a step instead notices, too.

    Args:
        comm: all ranks of the plan.
        name: of the parameter.
        values: what this rank was given for it.
        groups: by rank, something that ranks with copies of the same values share.

    Raises:
        PlanMismatch: a rank writes other values, to another parameter or nothing.
        RankFailed: another rank has failed in a step.

    Collective: all ranks.
    """
    own = float(zlib.crc32(values.tobytes()))
    mark = float(zlib.crc32(b"set_data" + name.encode()))
    messages = np.zeros((comm.size, 3))
    messages[comm.rank] = own, 0.0, mark
    comm.all_gather(messages.reshape(-1), (3,) * comm.size)
    if (messages[:, 2] != mark).any():
        agree_ok(comm, None)
        difference = first_difference(comm, [f"set_data of {name!r}"])
        raise PlanMismatch(
            f"the ranks do not write the same parameter: {difference}. The parameters "
            "of a manager are everybody's: call set_data on every rank, with the same "
            "values. Nothing was written."
        )
    marks = messages[:, 0].tolist()
    firsts: dict[object, int] = {}
    for rank, group in enumerate(groups):
        first = firsts.setdefault(group, rank)
        if marks[rank] != marks[first]:
            raise PlanMismatch(
                f"set_data of {name!r}: rank {rank} was given other values than rank "
                f"{first}, and both have copies of the parameter. Give every rank the "
                "same. Nothing was written."
            )
