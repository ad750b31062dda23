"""The manager of a job with an [outer] table."""

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np

from parallel_params.checkpoint.loading import Loaded
from parallel_params.checkpoint.slices import Layerwise
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import TrainingDiverged
from parallel_params.manager import ParameterManager
from parallel_params.outer.loop import OuterLoop
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan
from parallel_params.runtime.backward import LossFunction
from parallel_params.runtime.closing import Closing
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.build import Trainee
from parallel_params.train.config.job import Job
from parallel_params.train.round_plan import outer_optimizer, policies


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


class Rounds(Closing):
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
        notes = self.loop.outer.note or self.loop.inner.note, self.loop.plan.headline()
        self.note = "\n".join(note for note in notes if note)

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

    def load(self, origin: Path, *, layerwise: Layerwise = "fail") -> Loaded:
        """Go on from a checkpoint of the anchor; workers have no slices of their own.

        Collective: every rank.
        """
        return self.loop.go_on_from(origin)

    def close(self) -> None:
        """Free what was made here.

        Collective: every rank.
        """
        self.loop.close()

    def abandon(self) -> None:
        """Release the parameters without the other ranks."""
        self.loop.abandon()
