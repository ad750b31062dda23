"""The manager of a job with an [outer] table, and what stands for its checkpoints."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import ConfigError, TrainingDiverged, TrainingStopped
from parallel_params.manager import ParameterManager
from parallel_params.outer.loop import OuterLoop
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan
from parallel_params.runtime.backward import LossFunction
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.build import Trainee
from parallel_params.train.config.job import Job
from parallel_params.train.round_plan import outer_optimizer, policies

if TYPE_CHECKING:
    from parallel_params.train.course import Course


class Manager(Protocol):
    """What a run asks of its manager, be it a `ParameterManager` or `Rounds`."""

    note: str

    @property
    def plan(self) -> Plan:
        """Of what is kept in the end."""
        ...

    @property
    def comm(self) -> Communicator:
        """All ranks."""
        ...

    @property
    def num_steps(self) -> int:
        """Steps taken."""
        ...

    @property
    def num_skipped(self) -> int:
        """Steps not taken because a gradient was not finite."""
        ...

    def step(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Take a step on this rank's share of the batch."""
        ...

    def accumulate(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Take part of a batch."""
        ...

    def evaluation(self) -> AbstractContextManager[None]:
        """Show the weights to evaluate with."""
        ...

    def weights_hash(self) -> str:
        """Return a hash of them."""
        ...

    def report(self) -> str:
        """Say what was sent."""
        ...


def check_resume(job: Job, resume: str | None) -> None:
    """Refuse to go on with a job that saves no checkpoints.

    Raises:
        ConfigError: it has an outer loop.
    """
    if job.outer.every is not None and resume is not None:
        raise ConfigError(
            [
                "outer.every: jobs with an outer loop save no checkpoints, so none can "
                "be gone on from; leave --resume out"
            ]
        )


def open_manager(
    job: Job, trainee: Trainee, comm: Communicator, mesh: Mesh
) -> "ParameterManager | Rounds":
    """Make the manager of a job.

    Collective: every rank.
    """
    if job.outer.every is not None:
        return Rounds(job, trainee, comm)
    return ParameterManager(
        trainee.net,
        trainee.movers.optimizers,
        policy=trainee.policy,
        mesh=mesh,
        comm=comm,
    )


class Rounds:
    """The manager of a job with an outer loop.

    Args:
        job: what is trained.
        trainee: its net and optimizers.
        comm: all ranks.

    Attributes:
        loop: what takes the steps.

    Collective: every rank.
    """

    def __init__(self, job: Job, trainee: Trainee, comm: Communicator) -> None:
        assert job.outer.every is not None
        num_workers = job.outer.workers or comm.size
        inner, outer = policies(job, trainee, num_workers)
        self.comm = comm
        self.loop = OuterLoop(
            trainee.net,
            trainee.movers.optimizers,
            every=job.outer.every,
            outer=outer_optimizer(job),
            workers=num_workers,
            policy=inner,
            outer_policy=outer,
            comm=comm,
        )
        self.note = self.loop.outer.note or self.loop.inner.note

    @property
    def plan(self) -> Plan:
        """Of the outer steps: the anchor is what is kept."""
        return self.loop.plan.outer

    @property
    def num_steps(self) -> int:
        """Steps of this rank's worker."""
        return self.loop.num_steps

    @property
    def num_skipped(self) -> int:
        """Steps that this rank's worker has not taken."""
        return self.loop.inner.num_skipped

    def step(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Take a step, at the end of a round an outer one.

        Returns:
            The loss of this rank's worker; behind an outer step the mean of all workers
            that have one.

        Raises:
            RankFailed, TrainingDiverged, NonFiniteGradient: on all ranks, at the latest
                at the end of the round.

        Collective: the ranks of a worker; at the end of a round, all ranks.
        """
        num_skipped = self.num_skipped

        def take() -> Tensor:
            loss = self.loop.inner.step(loss_fn, *batch)
            if not math.isfinite(float(loss)) and self.num_skipped == num_skipped:
                raise TrainingDiverged(f"the loss is {float(loss)}")
            return loss

        loss = self.loop.take(take)
        if self.loop.position:
            return loss
        told = self.comm.all_gather_bytes(np.float64(float(loss)).tobytes())
        losses = np.frombuffer(b"".join(told), np.float64)
        finite = losses[np.isfinite(losses)]
        return Tensor.wrap(np.asarray(finite.mean() if finite.size else math.nan))

    def accumulate(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Take part of a batch; see `OuterLoop.accumulate`."""
        return self.loop.accumulate(loss_fn, *batch)

    def evaluation(self) -> AbstractContextManager[None]:
        """Show the anchor; see `OuterLoop.evaluation`."""
        return self.loop.evaluation()

    def weights_hash(self) -> str:
        """Return a hash of the anchor."""
        return self.loop.weights_hash()

    def report(self) -> str:
        """Say what a round moves, and what was sent."""
        return self.loop.report()

    def __enter__(self) -> "Rounds":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loop.__exit__(kind, error, trace)


class NoKeeping:
    """In the place of `Keeping` for a run that saves no checkpoints.

    Args:
        rounds: the run's manager.
        stop: tells whether this process was asked to stop; None if nobody can ask.
    """

    def __init__(self, rounds: Rounds, stop: Callable[[], bool] | None) -> None:
        self._rounds, self._stop = rounds, stop

    def clean(self) -> list[str]:
        """Do nothing: nothing is left behind."""
        return []

    def resume(
        self, course: "Course", origin: Path | None, *, is_asked: bool
    ) -> list[str]:
        """Go on from nothing; say what a round moves."""
        return [" ".join(self._rounds.loop.plan.headline().split())]

    def after_step(self, course: "Course") -> None:
        """End the run between two rounds, if a rank was asked to stop.

        Raises:
            TrainingStopped: on all ranks.

        Collective: every rank.
        """
        if self._stop is None or self._rounds.loop.position:
            return
        asked = self._rounds.comm.all_gather_bytes(b"1" if self._stop() else b"0")
        if b"1" in asked and course.step < course.num_steps:
            raise TrainingStopped(
                f"stopped as asked behind step {course.step}; jobs with an outer loop "
                "save no checkpoints, so nothing is kept"
            )

    def finish(self) -> None:
        """Do nothing: no save is under way."""
