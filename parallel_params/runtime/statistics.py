"""Statistics that follow what the grains see, moved once per step, alike on all ranks.

Every grain of a step observes for itself: the mean of a channel over its own samples,
say. The observations are added, weighted by their counts, in float64 in the tree of the
grains, so the mean over the global batch has the same bits at every world size that is
a power of two. It moves the statistic where this rank is responsible for its values.

What a rank owns alone (`layerwise_parallel`) follows the grains of the ranks that share
it. A statistic that nobody observed stays; so do all of them where a step is not taken.
"""

from collections.abc import Sequence

import numpy as np

from parallel_params.comm.protocol import Communicator
from parallel_params.nn.statistic import Observations, Statistic
from parallel_params.plan.bucket import Extent
from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.runtime.writes import responsible_parts
from parallel_params.tensor.row_sums import tree_sum_rows
from parallel_params.tensor.tape import Array


class Statistics:
    """Gathers what one rank's grains observe, and moves the statistics of a plan.

    Args:
        plan: says which parameters are statistics, and who shares them.
        comm: all ranks.
        arenas: in plan order.
        node: the windows of this rank's node.
    """

    def __init__(
        self, plan: Plan, comm: Communicator, arenas: Sequence[Arena], node: NodeMemory
    ) -> None:
        self._comm, self._node = comm, node
        self._members: list[tuple[Statistic, Arena, Extent, slice]] = []
        self._groups: dict[tuple[int, ...], list[int]] = {}
        self._width = 0
        names = {spec.name for spec in plan.params if spec.is_statistic}
        for arena in arenas:
            for extent, parameter in zip(
                arena.bucket.extents, arena.parameters, strict=True
            ):
                if extent.name in names and isinstance(parameter, Statistic):
                    start, self._width = self._width, self._width + parameter.size + 1
                    place = slice(start, self._width)
                    group = plan.group(arena.bucket, comm.rank)
                    self._groups.setdefault(group, []).append(len(self._members))
                    self._members.append((parameter, arena, extent, place))
        self._known = {id(statistic) for statistic, _, _, _ in self._members}
        self._is_shared = any(a.role.has_shared_weight for _, a, _, _ in self._members)
        self._rows: Array | None = None
        self._shared: Array = np.zeros(self._width)

    def begin(self, num_grains: int) -> None:
        """Get ready for so many grains, and forget those of another batch."""
        if self._members:
            self._rows = np.zeros((num_grains, self._width))

    def take(self, position: int, seen: Observations) -> None:
        """Take what was observed for that of one of this rank's grains.

        Args:
            position: of the grain.
            seen: collected on its way.

        Raises:
            RuntimeError: a statistic was observed that no manager looks after.
        """
        for statistic in seen:
            if id(statistic) not in self._known:
                raise RuntimeError(
                    f"the statistic {statistic.name!r} follows this net's batches, but "
                    "the ParameterManager was not given it: make it of the net, not of "
                    "its trainable parameters alone"
                )
        for statistic, _, _, place in self._members:
            found = seen.of(statistic)
            if found is not None:
                assert self._rows is not None
                row = self._rows[position]
                row[place.start : place.stop - 1] = found[0].reshape(-1)
                row[place.stop - 1] = found[1]

    def forget_backward(self) -> None:
        """Forget what the grains observed since the last share; the pass failed."""
        self._rows = None

    def share(self, *, adds: bool) -> None:
        """Tell all ranks what this one's grains observed, for the step to come.

        Args:
            adds: whether batches were accumulated for that step already.

        Collective: all ranks, if the plan has statistics.
        """
        if not self._members:
            return
        rows = np.zeros((self._comm.size, self._width))
        if self._rows is not None:
            rows[self._comm.rank] = tree_sum_rows(self._rows)
        self._rows = None
        if self._comm.size > 1:
            self._comm.all_gather(rows.reshape(-1), (self._width,) * self._comm.size)
        total = np.empty(self._width)
        for group, members in self._groups.items():
            found = tree_sum_rows(rows[list(group)])
            for i in members:
                place = self._members[i][3]
                total[place] = found[place]
        self._shared = self._shared + total if adds else total

    def move(self) -> None:
        """Move every statistic by the mean of what was shared for this step.

        Collective: the ranks of the node, if they share statistics.
        """
        for statistic, arena, extent, place in self._members:
            count = self._shared[place.stop - 1]
            if count:
                mean = self._shared[place.start : place.stop - 1] / count
                for target, part in responsible_parts(arena, extent):
                    target[...] = statistic.moved(target, mean[part])
        if self._is_shared:
            self._node.hand_over_weights()
