"""Forward and backward over the grains of one rank, gradients straight into the arenas.

Each grain is a slice of the rank's share of the batch and runs by itself, so that every
matrix product has the shape it has at any world size. What is left afterwards is the
sum over the rank's grains of weight times mean gradient. Collectives on the way, of
weights and streamed buckets, are issued by `stream.py` and `gatherer.py`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.statistic import collecting
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.gatherer import Gatherer
from parallel_params.runtime.grain_sums import GrainSums, Turn
from parallel_params.runtime.grains import NO_SAMPLES, Grain, cut_batch, split_loss
from parallel_params.runtime.statistics import Statistics
from parallel_params.runtime.stream import Streams
from parallel_params.runtime.tree import tree_sum
from parallel_params.tensor import random
from parallel_params.tensor.frame import Frame, Gradient, Sink
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

LossFunction: TypeAlias = Callable[..., "Tensor | tuple[Tensor, float]"]


class Total(NamedTuple):
    """What grains came to: the sum of weight times loss, and the sum of weights."""

    loss: float = 0.0
    weight: float = 0.0


class Backward:
    """Computes one rank's gradients.

    Args:
        arenas: of the trainable buckets, in plan order.
        streams: issues the collectives of the last grain; its streamed buckets are
            those of `arenas`, in this order.
        earlier: issues those of the other grains, which only gather weights.
        gatherer: makes weights whole that are cut over nodes.
        statistics: gathers what the grains observe.
        num_grains: of this rank.
        first_grain: position of this rank's first grain in the global batch.

    Attributes:
        num_absent: by parameter name, in how many grains no gradient arrived so far.
        axes: along which cells of the net are cut; a grain is one pass for them.
    """

    def __init__(
        self,
        arenas: Sequence[Arena],
        streams: Streams,
        earlier: Streams,
        gatherer: Gatherer,
        statistics: Statistics,
        *,
        num_grains: int,
        first_grain: int,
    ) -> None:
        self._streams, self._earlier, self._gatherer = streams, earlier, gatherer
        self._statistics = statistics
        self._first_grain, self._num_grains = first_grain, num_grains
        self._plain = [arena for arena in arenas if not arena.role.is_streamed]
        self._streamed = [arena for arena in arenas if arena.role.is_streamed]
        ordered = [*self._plain, *self._streamed]
        self._parameters = [p for arena in ordered for p in arena.parameters]
        self._names = [e.name for arena in ordered for e in arena.bucket.extents]
        # Of every weight behind the plain ones: its streamed bucket.
        self._bucket_of = [
            number for number, arena in enumerate(self._streamed)
            for _ in arena.parameters
        ]  # fmt: skip
        self._num_plain = len(self._parameters) - len(self._bucket_of)
        self._sums = GrainSums(self._plain, self._streamed, streams, num_grains)
        # Whether anything is gathered or reduced on the way.
        self._has_flow = bool(self._streamed) or gatherer.num_buckets > 0
        self.num_absent: dict[str, int] = {}
        self.axes: tuple[Axis, ...] = ()

    def run(
        self,
        loss_fn: LossFunction,
        batch: Sequence[object],
        *,
        factor: float,
        scope: tuple[random.Key, ...],
        whole: Sequence[Array] | None = None,
    ) -> Total:
        """Leave the sum of the grains' gradients in the arenas, or reduced on its way.

        Args:
            loss_fn: called with a grain of each member of `batch`; returns the mean
                loss over the grain, or that and what it is a mean of.
            batch: this rank's share: arrays or tensors of one length along dim 0.
            factor: on every loss.
            scope: names the step to the random streams.
            whole: a buffer [numel] for every streamed bucket, which is not reduced.

        Raises:
            ValueError: the batch cannot be cut into grains.
            TypeError: the loss is no floating-point scalar, or a member of the batch is
                no array.

        Collective: all ranks, whatever is raised, if anything is gathered or streamed.
        """
        error: Exception | None = None
        try:
            grains = cut_batch(batch, self._num_grains)
        except Exception as raised:
            error, grains = raised, [NO_SAMPLES] * self._num_grains
        self._statistics.begin(self._num_grains)
        totals: list[Total] = []
        for turn, grain in zip(self._sums.turns, grains, strict=True):
            flow = self._flow(turn, whole)
            sinks = self._sums.sinks(turn, whole)
            with random.scope(*scope, "grain", self._first_grain + turn.position):
                used = grain if error is None else NO_SAMPLES
                self._begin_grain(error)
                try:
                    with collecting() as seen:
                        total = self._run_grain(loss_fn, used, sinks, factor, flow)
                    self._statistics.take(turn.position, seen)
                    totals.append(total)
                except Exception as raised:
                    error = raised
                error = self._end_grain(error, flow)
            self._sums.add(turn)
        if error is not None:
            raise error
        if whole is not None:
            self._sums.add_partials(whole)
        return _sum_of(totals)

    def place(self, fill: "Callable[[Arena, Sequence[Array]], None]") -> None:
        """Take gradients that were computed elsewhere, bucket by bucket.

        Args:
            fill: writes the gradients of an arena into its views, one per parameter.

        Collective: all ranks, if anything is streamed.
        """
        for arena in self._plain:
            fill(arena, arena.views(arena.gradient))
        self._streams.begin(num_partials=0, has_gathers=False)
        for number, arena in enumerate(self._streamed):
            members = range(len(arena.parameters))
            fill(arena, [self._streams.sink(number, member) for member in members])
            for _ in members:
                self._streams.final(number)
        self._streams.drain()

    def _flow(self, turn: Turn, whole: Sequence[Array] | None) -> Streams | None:
        """Return what issues collectives on the way, if there are any."""
        if not self._has_flow:
            return None
        flow = self._streams if turn.is_last and whole is None else self._earlier
        flow.begin(num_partials=turn.num_partials, has_gathers=True)
        return flow

    def _run_grain(
        self,
        loss_fn: LossFunction,
        grain: Grain,
        sinks: Sequence[Sink],
        factor: float,
        flow: Streams | None,
    ) -> Total:
        if not grain.num_samples:
            if flow is not None:
                self._gatherer.begin_forward(None)
            for sink in sinks:
                if not callable(sink):
                    sink.fill(0)
            return Total()
        is_streaming = flow is self._streams and bool(self._streamed)
        on_final = self._on_final if is_streaming else None
        with Frame(self._parameters, sinks, on_final) as frame:
            if flow is not None:
                self._gatherer.begin_forward(frame)
            loss, weight = split_loss(loss_fn(*grain.members), grain.num_samples)
            if flow is not None:
                self._end_forward(frame, flow)
            value = loss._array
            seed = np.asarray(weight * factor, value.dtype)
            if value.ndim:
                seed = seed.reshape(value.shape)
            arrived = frame.sweep(loss, Tensor.wrap(seed))
        self._fill_absent(arrived, sinks)
        return Total(float(value.item()) * weight, weight)

    def _end_forward(self, frame: Frame, flow: Streams) -> None:
        self._gatherer.end_forward()
        if self._gatherer.num_buckets:
            self._gatherer.watch_backward(frame, flow.run_due)
            flow.run_due(self._gatherer.num_buckets)

    def _begin_grain(self, error: Exception | None) -> None:
        for axis in self.axes:
            axis.rendezvous.begin()
        if error is not None:
            self._give_up()

    def _give_up(self) -> None:
        for axis in self.axes:
            axis.rendezvous.give_up()

    def _end_grain(
        self, error: Exception | None, flow: Streams | None
    ) -> Exception | None:
        """Issue what is owed, and leave together with the ranks along every axis."""
        if error is not None:
            self._give_up()
        if flow is not None:
            self._gatherer.end_forward()
            flow.drain()
            self._gatherer.drop_all()
        for axis in self.axes:
            other = axis.rendezvous.end()
            if other is not None and error is None:
                error = other
                self._give_up()
        return error

    def _fill_absent(self, arrived: Sequence[Gradient], sinks: Sequence[Sink]) -> None:
        for i, gradient in enumerate(arrived):
            if gradient is None:
                sink = sinks[i]
                if not callable(sink):
                    sink.fill(0)
                name = self._names[i]
                self.num_absent[name] = self.num_absent.get(name, 0) + 1

    def _on_final(self, weight: int) -> None:
        if weight >= self._num_plain:
            self._streams.final(self._bucket_of[weight - self._num_plain])


def _sum_of(totals: Sequence[Total]) -> Total:
    if len(totals) == 1:
        return totals[0]
    losses, weights = [t.loss for t in totals], [t.weight for t in totals]
    return Total(tree_sum(losses), tree_sum(weights))
