"""Weights that are cut over nodes (level 3): gathered for use, given back afterwards.

A gathered bucket has one address for good, so that what forward remembers of a weight
is right again when backward has gathered it. Between uses its pages are given back to
the system. Which are whole when is the course that `plan/gathers.py` fixes; what a rank
uses out of order it gets by gathering all before it.

Source: Rajbhandari et al., ZeRO (2020), section 5.3; pages given back are ours.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

from parallel_params.comm.pages import drop_pages
from parallel_params.errors import ManagerClosed
from parallel_params.nn.storage import Storage
from parallel_params.plan.gathers import find_releases
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.flights import Flight
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.runtime.reducer import Reducer
from parallel_params.tensor.frame import Frame
from parallel_params.tensor.tape import Array


class Gatherer:
    """Gathers the weights of one rank's gathered buckets.

    Args:
        arenas: of the gathered buckets, whose first parameter is declared last first.
        reducers: one per arena.
        node: the windows of the rank's node.
        declared: position of every parameter, by name; forward goes along these.

    Attributes:
        releases: for the k-th gather of forward, at which later one its bucket is given
            back; the number of all for those that stay to the end.
    """

    def __init__(
        self,
        arenas: Sequence[Arena],
        reducers: Sequence[Reducer],
        node: NodeMemory,
        declared: Mapping[str, int],
    ) -> None:
        self._arenas = tuple(arenas)
        self._reducers = tuple(reducers)
        self._node = node
        self._live: list[int] = []
        self._arriving: dict[int, Flight | None] = {}
        # Of what lies in the node's window: dropped by this rank, and by all of them.
        self._dropped: list[int] = []
        self._droppable: list[int] = []
        self._positions: list[int] = []
        self._num_forward = len(self._arenas)
        self._frame: Frame | None = None
        self._is_forward = False
        self._index = {
            id(p): i for i, arena in enumerate(self._arenas) for p in arena.parameters
        }
        self.releases = find_releases(
            [
                [e.name for e in arena.bucket.extents]
                for arena in reversed(self._arenas)
            ],
            declared,
        )

    def take_over(self) -> None:
        """Keep the weights of the gathered buckets in parts from now on."""
        for arena in self._arenas:
            for parameter in arena.parameters:
                parameter.reshard(self._fetch)

    @property
    def num_buckets(self) -> int:
        """How many buckets are gathered."""
        return len(self._arenas)

    @property
    def is_whole(self) -> bool:
        """Whether every bucket is live."""
        return len(self._live) == len(self._arenas)

    def begin_forward(self, frame: Frame | None) -> None:
        """Get ready for the forward pass of one grain; None for one without samples."""
        self._frame, self._positions, self._num_forward = frame, [], 0
        self._is_forward = True

    def end_forward(self) -> None:
        """Gather what forward did not ask for, then give everything back.

        Collective: the cross groups, in plan order.
        """
        if self._is_forward:
            while self._num_forward < len(self._arenas):
                self._gather_next_forward()
            self.drop_all()
        self._is_forward, self._frame = False, None

    def watch_backward(self, frame: Frame, run_due: Callable[[int], None]) -> None:
        """Have buckets gathered and given back as the sweep of `frame` goes.

        Args:
            frame: whose forward pass has ended.
            run_due: issues what is due when backward is done with the k-th gather.
        """
        for k, position in enumerate(self._positions):
            frame.at(position, functools.partial(self._pass_back, k, run_due))

    def start(self, index: int) -> None:
        """Start to gather one bucket.

        Collective: its cross group.
        """
        arena = self._arenas[index]
        for dropped in (self._dropped, self._droppable):
            if index in dropped:
                dropped.remove(index)
        arena.weight[arena.role.own.as_slice()] = arena.updated_weight
        self._arriving[index] = self._reducers[index].start_gather(arena.weight)

    def arrive(self, index: int) -> None:
        """Wait for a bucket that was started, and let its parameters be used.

        Collective: its node.
        """
        arena = self._arenas[index]
        flight = self._arriving.pop(index)
        if flight is not None:
            flight.land()
        if arena.role.num_local > 1:
            self._hand_over()
        views = arena.views(arena.weight)
        for parameter, view in zip(arena.parameters, views, strict=True):
            parameter.unshard(view)
        self._live.append(index)

    def gather_all(self) -> None:
        """Gather every bucket, for use outside of a step.

        Collective: all ranks.
        """
        for index in range(len(self._arenas)):
            if index not in self._live:
                self.start(index)
                self.arrive(index)

    def drop_all(self) -> None:
        """Give back what is live."""
        for index in list(self._live):
            self._drop(index)

    def let_go(self) -> None:
        """Leave what is live to the parameters, which have been released."""
        self._live.clear()

    def _drop(self, index: int) -> None:
        if index not in self._live:
            return
        self._live.remove(index)
        arena = self._arenas[index]
        for parameter in arena.parameters:
            parameter.reshard(self._fetch)
        if arena.role.num_local == 1:
            drop_pages(arena.weight.view("u1"), is_shared=False)
        else:
            self._dropped.append(index)

    # Note [pages of a node]
    # One rank of the node gives shared pages back, when no other one reads or writes
    # there: all have dropped a bucket once they have met since, and none has started it
    # again, because all start in one order and none is beyond the coming hand-over.
    def _hand_over(self) -> None:
        for index in self._droppable:
            self._node.drop_weight(self._arenas[index].role)
        self._node.hand_over_weights()
        self._droppable, self._dropped = self._dropped, []

    def _pass_back(self, k: int, run_due: Callable[[int], None]) -> None:
        """Backward has no more use for what forward gathered as its k-th."""
        self._drop(len(self._arenas) - 1 - k)
        run_due(k)

    def _gather_next_forward(self) -> None:
        last = len(self._arenas) - 1
        due = last - self._num_forward
        if due not in self._arriving:
            self.start(due)
        for f, release in enumerate(self.releases):
            if release == self._num_forward:
                self._drop(last - f)
        if self._frame is not None:
            self._positions.append(self._frame.pin())
        self.arrive(due)
        if due > 0:
            self.start(due - 1)
        self._num_forward += 1

    def _fetch(self, parameter: Storage) -> Array:
        """Make the weights of a parameter live; called when somebody looks at them."""
        index = self._index[id(parameter)]
        if not self._is_forward:
            raise ManagerClosed(
                f"the weights of {parameter.name!r} are cut over the nodes (level 3) "
                "and are only whole during a step; look at them inside `with "
                "manager.unsharded():`, which all ranks enter together"
            )
        if len(self._arenas) - 1 - index < self._num_forward:
            raise RuntimeError(
                f"the weights of {parameter.name!r} were given back already: they are "
                "used twice in one pass, or not in the order of declaration; keep them "
                f"at level 2 with Policy(override={{{parameter.name!r}: 2}})"
            )
        while len(self._arenas) - 1 - index >= self._num_forward:
            self._gather_next_forward()
        return parameter._array
