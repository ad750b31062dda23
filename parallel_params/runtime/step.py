"""One optimizer step behind the backward pass: reduce, decide, update, publish.

The order of collectives is the plan's (`plan/announce.py`); no rank issues another.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from parallel_params.errors import NonFiniteGradient
from parallel_params.optim.settings import Settings
from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.exchange import Exchange, name_finding
from parallel_params.runtime.flights import Flight, Flights
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.runtime.reducer import Finding
from parallel_params.runtime.rounds import Rounds
from parallel_params.runtime.stepper import ScaleOf
from parallel_params.runtime.verdict import TAKEN, Decision, NonFinite, Verdict
from parallel_params.tensor.tape import Array

Rates = Sequence[Sequence[float]]
"""Learning rate per group, per optimizer."""


class Step:
    """Executes the part of a step that follows the backward pass.

    Args:
        plan: what is executed.
        exchanges: the trainable buckets, in plan order.
        node: the windows of this rank's node.
        flights: what is under way between nodes.
        verdict: decides about the gradients; None if nothing is to be decided.
        rounds: of the buckets whose rules need sums over parameters.

    Attributes:
        num_zeroed: elements of gradients that were not finite and taken as zero.
    """

    def __init__(
        self,
        plan: Plan,
        exchanges: Sequence[Exchange],
        node: NodeMemory,
        flights: Flights,
        verdict: Verdict | None,
        rounds: Sequence[Rounds],
    ) -> None:
        self._policy = plan.policy
        self._exchanges = tuple(exchanges)
        self._plain = [e for e in exchanges if not e.arena.role.is_streamed]
        self._parts = [e for e in exchanges if e.arena.bucket.is_updated_in_parts]
        self._node, self._verdict, self._rounds = node, verdict, tuple(rounds)
        self._plan, self._flights = plan, flights
        self._scales = {e.arena.bucket.index: e.scale for e in exchanges}
        self._found: NonFinite | None = None
        self._found_before: NonFinite | None = None
        self._pending: dict[int, Array] = {}
        self.num_zeroed, self._is_summed = 0, True
        plain = [e.arena.role for e in self._plain]
        self._reads_peers = any(role.num_local > 1 for role in plain)
        self._has_reduced = any(role.needs_reduced for role in plain)
        self._shares_weights = any(
            e.arena.role.has_shared_weight and not e.arena.role.is_gathered
            for e in self._parts
        )
        clip = plan.policy.clip
        self._bound = None if clip is None else clip.value

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The trainable buckets, in plan order."""
        return self._exchanges

    @property
    def is_accumulating(self) -> bool:
        """Whether gradients of earlier batches wait for the step."""
        return bool(self._pending)

    def forget(self) -> None:
        """Drop accumulated gradients and what was found in them."""
        self._found = self._found_before = None
        self._pending = {}

    def forget_backward(self) -> None:
        """Drop what was found since the last accumulated batch; the pass failed."""
        self._found = self._found_before

    def accumulate(self) -> None:
        """Reduce, and keep the owned intervals for a later step.

        Collective: all ranks.
        """
        self.reduce(is_last=False)
        for exchange in self._exchanges:
            arena = exchange.arena
            self._pending[arena.bucket.index] = arena.own_reduced.copy()
        self._found_before = self._found
        if self._reads_peers:
            # The next backward pass writes where peers have just been reading.
            self._node.hand_over_gradients()

    def reduce_streamed(
        self, arena: Arena, peers: Sequence[Array], slot: int
    ) -> Flight | None:
        """Start to reduce a streamed bucket, in the middle of the backward pass.

        Returns:
            What is under way and still reads the slot; None if nothing is.

        Collective: the bucket's cross group.
        """
        exchange = next(e for e in self._exchanges if e.arena is arena)
        return self._start(exchange, peers, slot)

    def reduce(self, *, is_last: bool = True) -> None:
        """Reduce all other buckets.

        Args:
            is_last: whether a step follows, which needs whole buckets everywhere.

        Collective: all ranks.
        """
        if self._reads_peers:
            self._node.hand_over_gradients()
        whole: list[tuple[Exchange, Flight | None]] = []
        self._is_summed = bool(self._pending) or not is_last
        for exchange in self._plain:
            if exchange.stepper.is_adding and not self._is_summed:
                continue
            flight = self._start(exchange, exchange.arena.peers[0], 0)
            # The sum of one bucket goes round while the next one is brought.
            self._complete(whole)
            if is_last and exchange.arena.role.gathers_sum:
                whole.append((exchange, flight))
        self._complete(whole)
        self._flights.land_all()

    def decide(self, scale: float) -> Decision:
        """Find out with all ranks what becomes of the reduced gradients.

        Args:
            scale: the mean gradients are this times the reduced ones.

        Raises:
            NonFiniteGradient: the policy asks for it, on all ranks; nothing has moved.

        Collective: all ranks, if the policy has anything to decide.
        """
        if self._verdict is None:
            return TAKEN
        scales = {index: scale * own for index, own in self._scales.items()}
        if self._bound is not None:
            self._clip_values(scales)
        decision = self._verdict.reach(self._found, scales)
        if decision.non_finite is not None and self._policy.non_finite == "raise":
            scaling = self._policy.scaling
            if scaling is None or not scaling.is_dynamic:
                raise NonFiniteGradient(f"{decision.non_finite}; no weight has changed")
        return decision

    def update(
        self,
        *,
        step: int,
        rates: Rates,
        scale: float,
        factors: Mapping[object, float],
    ) -> None:
        """Update what is this rank's, and let everybody have it.

        Args:
            step: of the manager, 1 for its first; what began later counts from there
                (`Settings.since`).
            rates: of every optimizer.
            scale: the mean gradients are this times the reduced ones.
            factors: of clipping, by the verdict's keys.

        Collective: all ranks.
        """
        if self._has_reduced:
            self._take_reduced(scale)
        for rounds in self._rounds:
            rounds.run(
                [
                    moves
                    for stepper in rounds.steppers
                    for moves in stepper.moves(
                        step=step,
                        rates=rates[stepper.arena.bucket.optimizer],
                        scale_of=self._scale_of(stepper.arena, scale, factors),
                        nodes=rounds.nodes,
                    )
                ]
            )
        for exchange in self._exchanges:
            arena = exchange.arena
            if not exchange.stepper.is_in_rounds:
                exchange.stepper.apply(
                    step=step,
                    rates=rates[arena.bucket.optimizer],
                    scale_of=self._scale_of(arena, scale, factors),
                    is_reduced=self._is_summed or not exchange.stepper.is_adding,
                )
            # These weights travel while the next bucket is updated.
            exchange.start_publishing()
        self._finish_publishing()

    def _take_reduced(self, scale: float) -> None:
        self._node.hand_over_gradients()
        for exchange in self._plain:
            arena = exchange.arena
            if arena.node_reduced is not None:
                np.copyto(arena.reduced, arena.node_reduced)
                self._clip_value(arena.reduced, scale * exchange.scale)

    def publish(self) -> None:
        """Let everybody have the weights that their owners have written.

        Collective: all ranks.
        """
        for exchange in self._parts:
            exchange.start_publishing()
        self._finish_publishing()

    def _finish_publishing(self) -> None:
        self._flights.land_all()
        if self._shares_weights:
            self._node.hand_over_weights()

    def _scale_of(
        self, arena: Arena, scale: float, factors: Mapping[object, float]
    ) -> ScaleOf:
        fixed = scale * self._scales[arena.bucket.index]
        if not factors:
            return lambda name, settings: fixed
        verdict = self._verdict
        assert verdict is not None

        def scale_of(name: str, settings: Settings) -> float:
            return fixed * factors[verdict.key_of(name)]

        return scale_of

    def _start(
        self, exchange: Exchange, peers: Sequence[Array], slot: int
    ) -> Flight | None:
        arena = exchange.arena
        return exchange.reducer.start_reduce(
            peers,
            arena.own_reduced,
            slot=slot,
            then=lambda found: self._settle(exchange, found),
        )

    def _complete(self, whole: "list[tuple[Exchange, Flight | None]]") -> None:
        """Start to gather the reduced gradients that every rank needs whole."""
        for exchange, flight in whole:
            if flight is not None:
                flight.land()
            arena = exchange.arena
            buffer = arena.node_reduced
            exchange.reducer.start_gather(arena.gradient if buffer is None else buffer)
        whole.clear()

    def _settle(self, exchange: Exchange, findings: Sequence[Finding]) -> None:
        """Take the sum of an owned interval over: add to it, look at it."""
        arena = exchange.arena
        own = arena.own_reduced
        if arena.bucket.index in self._pending:
            before = [self._pending[arena.bucket.index], own]
            findings = [*findings, *exchange.reducer.add(before, own)]
        if findings and self._policy.non_finite == "zero":
            wrong = ~np.isfinite(own)
            self.num_zeroed += int(np.count_nonzero(wrong))
            own[wrong] = 0
            return
        for finding in findings:
            found = name_finding(self._plan, arena, finding)
            self._found = min(found, self._found or found)

    def _clip_values(self, scales: Mapping[int, float]) -> None:
        for exchange in self._exchanges:
            arena = exchange.arena
            scale = scales[arena.bucket.index]
            self._clip_value(arena.own_reduced, scale)
            if arena.node_reduced is None:
                # Else peers may still read there, and `update` fills and clips it.
                self._clip_value(arena.reduced, scale)

    def _clip_value(self, gradient: Array, scale: float) -> None:
        if self._bound is not None:
            bound = np.asarray(self._bound / scale, gradient.dtype)
            np.clip(gradient, -bound, bound, out=gradient)
