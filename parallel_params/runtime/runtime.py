"""What executes a plan on one rank, as `build.py` has wired it, and its parameters.

It takes the parameters over, shows them whole for a while, and lets them go.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from parallel_params.nn.parameter import Parameter
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.backward import Backward
from parallel_params.runtime.gatherer import Gatherer
from parallel_params.runtime.groups import Groups
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.runtime.statistics import Statistics
from parallel_params.runtime.step import Step
from parallel_params.runtime.stream import Streams
from parallel_params.runtime.writes import Writes
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What executes a plan on one rank.

    Attributes:
        arenas: of all buckets, frozen ones included, in plan order.
        step: what follows a backward pass.
        backward: fills the arenas, and reduces those that are streamed.
        streams: the collectives during the last grain's backward.
        gatherer: makes weights whole that are cut over nodes.
        statistics: what follows the grains without a gradient.
        node: the windows.
        groups: the communicators.
        writes: writes what a user sets.
    """

    arenas: tuple[Arena, ...]
    step: Step
    backward: Backward
    streams: Streams
    gatherer: Gatherer
    statistics: Statistics
    node: NodeMemory
    groups: Groups
    writes: Writes

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Make all weights whole for a while; inside of itself it changes nothing.

        Collective: all ranks.
        """
        is_outermost = not self.gatherer.is_whole
        self.gatherer.gather_all()
        try:
            yield
        finally:
            if is_outermost:
                self.gatherer.drop_all()

    def whole_buffers(self) -> list[Array]:
        """Return a new buffer [numel] for the gradient of every streamed bucket."""
        return [
            np.zeros(arena.bucket.numel, arena.dtype)
            for arena in self.arenas
            if arena.role.is_streamed
        ]

    def mean_gradients(self, whole: Sequence[Array], weight: float) -> dict[str, Array]:
        """Divide what backward left by a weight, if not 0; return it by name.

        Args:
            whole: from `whole_buffers`, filled by the backward pass.
            weight: of this rank's samples.
        """
        buffers = iter(whole)
        gradients: dict[str, Array] = {}
        for arena in self.arenas:
            if arena.bucket.is_trainable:
                is_streamed = arena.role.is_streamed
                buffer = next(buffers) if is_streamed else arena.gradient
                if weight:
                    np.multiply(buffer, np.asarray(1 / weight, buffer.dtype), buffer)
                names = [extent.name for extent in arena.bucket.extents]
                gradients.update(zip(names, arena.views(buffer), strict=True))
        return gradients

    @property
    def trained_parameters(self) -> dict[str, Parameter]:
        """The parameters that are trained, by name."""
        return {
            extent.name: parameter
            for arena in self.arenas
            if arena.bucket.is_trainable
            for extent, parameter in zip(
                arena.bucket.extents, arena.parameters, strict=True
            )
        }

    def bind(self) -> None:
        """Let the parameters show what lies in the arenas, and be written there."""
        for arena in self.arenas:
            role = arena.role
            is_shared = role.has_shared_weight or role.is_gathered
            for extent, parameter in zip(
                arena.bucket.extents, arena.parameters, strict=True
            ):
                shape = parameter.shape
                parameter.release()
                parameter.house(
                    arena.view(arena.weight, extent, shape), is_shared=is_shared
                )
            if role.num_ranks > 1 or MASTER_WEIGHT in arena.state:
                # There is more than one copy of a value that a user sets.
                self.writes.watch(arena)
        self.gatherer.take_over()

    def go_on_from(self, earlier: "Runtime") -> None:
        """Go on with the same net, and with the counts of another runtime."""
        self.backward.axes = earlier.backward.axes
        self.backward.num_absent |= earlier.backward.num_absent
        self.step.num_zeroed += earlier.step.num_zeroed

    def release(self) -> None:
        """Let go of the parameters, which keep the values that this rank can see."""
        for arena in self.arenas:
            is_shared = arena.role.has_shared_weight or arena.role.is_gathered
            for view, parameter in zip(
                arena.views(arena.weight), arena.parameters, strict=True
            ):
                if is_shared:
                    parameter.settle(view.copy())
                parameter.release()
        self.gatherer.let_go()
