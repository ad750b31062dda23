"""Steps in their order: what every rank agrees on, counts and keeps between them."""

import math
from collections.abc import Mapping, Sequence

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import KernelsChanged, NonFiniteGradient
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.guards import LossScale
from parallel_params.plan.plan import Plan
from parallel_params.runtime.backward import Total
from parallel_params.runtime.runtime import Runtime
from parallel_params.runtime.status import Call, Status
from parallel_params.tensor.kernel_set import kernel_set

LEAST_SCALE = 2.0**-126
"""The least normal float32: gradients cannot be multiplied by one over less."""


def steps_before(optimizers: Sequence[Optimizer]) -> int:
    """Return the steps taken before a manager adopts these optimizers."""
    return max(optimizer.num_steps for optimizer in optimizers)


def first_starts(optimizers: Sequence[Optimizer]) -> dict[str, int]:
    """Return when the state of every parameter began, see `Course.starts`."""
    return starts_of(optimizers, steps_before(optimizers))


def starts_of(optimizers: Sequence[Optimizer], num_steps: int) -> dict[str, int]:
    """Return the same for optimizers that are adopted after so many steps."""
    return {
        parameter.name: num_steps - optimizer.num_steps
        for optimizer in optimizers
        for parameter in optimizer.parameters
        if optimizer.num_steps != num_steps
    }


class Course:
    """Takes the steps of one rank.

    Args:
        plan: what is executed.
        comm: all ranks.
        runtime: what executes it.
        optimizers: whose rates and counts these are.
        starts: by parameter name, see the attribute; none is 0.

    Attributes:
        num_steps: taken, those of the optimizers before included.
        starts: by parameter name, how many steps had been taken when its optimizer
            state began: rules count from there.
        num_skipped: not taken because a gradient was not finite.
        loss_scale: factor on the loss of the next step.
        norms: of the last step's mean gradients, before clipping.
        is_evaluating: the weights are those to evaluate with, and no step may be taken.
    """

    def __init__(
        self,
        plan: Plan,
        comm: Communicator,
        runtime: Runtime,
        optimizers: Sequence[Optimizer],
        starts: Mapping[str, int],
    ) -> None:
        self._comm, self._step = comm, runtime.step
        self._statistics = runtime.statistics
        self._optimizers = tuple(optimizers)
        self._status = Status(comm)
        self._kernels = kernel_set()
        self._pending_weight = 0.0
        self.num_steps = steps_before(optimizers)
        self.starts = dict(starts)
        self.num_skipped = 0
        self.norms: Mapping[object, float] = {}
        self.is_evaluating = False
        self._begin_scaling(plan.policy.scaling)

    def follow(
        self,
        plan: Plan,
        runtime: Runtime,
        optimizers: Sequence[Optimizer],
        starts: Mapping[str, int],
    ) -> None:
        """Go on under another plan: steps, skips and the loss scale are kept.

        A loss scale that the new policy sets otherwise begins as it says.
        """
        self._step, self._statistics = runtime.step, runtime.statistics
        self._optimizers = tuple(optimizers)
        self.starts = dict(starts)
        if plan.policy.scaling != self._scaling:
            self._begin_scaling(plan.policy.scaling)

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """Whose rates and counts these are."""
        return self._optimizers

    @property
    def has_pending(self) -> bool:
        """Whether gradients of earlier batches wait for the next step."""
        return self._step.is_accumulating

    @property
    def num_good(self) -> int:
        """Steps since a dynamic loss scale last moved."""
        return self._num_good

    def restore(
        self,
        *,
        num_steps: int,
        num_skipped: int,
        num_good: int,
        loss_scale: float,
        starts: Mapping[str, int],
    ) -> None:
        """Go on as after these steps; accumulated gradients are dropped."""
        self.num_steps, self.num_skipped = num_steps, num_skipped
        self._num_good, self.loss_scale = num_good, loss_scale
        self.starts = dict(starts)
        self._pending_weight = 0.0
        self._step.forget()

    @property
    def pending_factor(self) -> float:
        """What accumulated gradients were multiplied by; 1 if there are none."""
        return self.loss_scale if self._pending_weight else 1.0

    def stop(self) -> None:
        """Let go of what takes the steps; the counts stay."""
        del self._step, self._statistics

    def exchange(
        self,
        call: Call,
        own: Total,
        error: Exception | None,
        rates: Sequence[Sequence[float]] = (),
    ) -> Total:
        """Learn what all ranks' grains came to; raise if one of them failed.

        Collective: all ranks.
        """
        now = kernel_set()
        if error is None and now.name != self._kernels.name:
            error = KernelsChanged(
                f"the kernels are {now} now and were {self._kernels} when this manager "
                "was made; choose them before, with set_kernels"
            )
        try:
            total = self._status.exchange(
                own, error, call=call, step=self.num_steps, rates=rates
            )
        except Exception:
            # Streamed buckets have been reduced, and looked at, on the way.
            self._step.forget_backward()
            self._statistics.forget_backward()
            raise
        if call != "value_and_grad":
            self._statistics.share(adds=self._pending_weight > 0)
        return total

    def accumulate(self, own: Total, error: Exception | None) -> float:
        """Keep the gradients of a backward pass for the next step; return the loss.

        Collective: all ranks.
        """
        self.refuse_while_evaluating("no step can be taken")
        total = self.exchange("accumulate", own, error)
        self._step.accumulate()
        self._pending_weight += total.weight
        return total.loss / total.weight if total.weight else math.nan

    def step(
        self,
        call: Call,
        own: Total,
        error: Exception | None,
        *,
        factor: float | None = None,
    ) -> float:
        """Take a step on the gradients of a backward pass; return the mean loss.

        Args:
            call: the manager's method.
            own: what this rank's grains came to.
            error: what went wrong there.
            factor: that the gradients were multiplied by; by default the loss scale.

        Collective: all ranks.
        """
        self.refuse_while_evaluating("no step can be taken")
        rates: list[tuple[float, ...]] = []
        if error is None:
            try:
                rates = [each.rates(each.num_steps) for each in self._optimizers]
            except Exception as raised:
                error = raised
        total = self.exchange(call, own, error, rates)
        weight = total.weight + self._pending_weight
        if not weight:
            self._step.forget_backward()
            raise ValueError("no rank has a sample to take a step on")
        self._step.reduce()
        scale = 1.0 / weight / (self.loss_scale if factor is None else factor)
        try:
            decision = self._step.decide(scale)
        finally:
            self._pending_weight = 0.0
            self._step.forget()
        self.norms = decision.norms
        if decision.non_finite is not None:
            self.num_skipped += 1
        else:
            self.num_steps += 1
            self._step.update(
                step=self.num_steps, rates=rates, scale=scale, factors=decision.factors
            )
            self._advance()
        self._adapt(decision.non_finite)
        return total.loss / total.weight if total.weight else math.nan

    def _advance(self) -> None:
        """Move what goes with the weights of a step that is taken."""
        self._statistics.move()
        for optimizer in self._optimizers:
            optimizer.advance()

    def notes(self) -> list[str]:
        """Say what was noticed on the way."""
        notes = []
        if self.num_skipped:
            notes.append(f"{self.num_skipped} steps skipped: a gradient was not finite")
        if self._step.num_zeroed:
            notes.append(
                f"{self._step.num_zeroed} elements of gradients that were not finite "
                "were taken as zero on this rank"
            )
        return notes

    def refuse_while_evaluating(self, what: str) -> None:
        """Raise inside of `manager.evaluation()`, where all ranks are together.

        Raises:
            RuntimeError: saying `what`, and why.
        """
        if self.is_evaluating:
            self._step.forget_backward()
            raise RuntimeError(
                f"inside of `with manager.evaluation()` {what}: the weights "
                "there are those to evaluate with, and are put back at its end. Leave "
                "it first"
            )

    def _begin_scaling(self, scaling: LossScale | None) -> None:
        self._scaling, self._num_good = scaling, 0
        self.loss_scale = 1.0 if scaling is None else scaling.initial

    def _adapt(self, found: str | None) -> None:
        """Move a dynamic loss scale; every rank knows the same and does the same."""
        scaling = self._scaling
        if scaling is None or not scaling.is_dynamic:
            return
        self._num_good = self._num_good + 1 if found is None else 0
        if found is not None:
            self.loss_scale *= scaling.backoff
            if self.loss_scale < LEAST_SCALE:
                raise NonFiniteGradient(
                    f"{found}, and a loss scale of {self.loss_scale:.1e} does not help:"
                    f" {self.num_skipped} steps were skipped. The loss or a weight is "
                    "not finite by itself; no weight has changed"
                )
        elif self._num_good == scaling.interval:
            self.loss_scale *= scaling.growth
            self._num_good = 0
