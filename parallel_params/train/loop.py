"""The training loop: batches in, steps of the manager, a run folder out.

What is trained is built in `build`, what a run says and leaves behind is written in
`journal`; here is only what happens in which order.
"""

import math
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

from parallel_params import ops
from parallel_params.comm.agree import agree_ok, agree_same
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import NonFiniteGradient, TrainingDiverged
from parallel_params.manager import ParameterManager
from parallel_params.runtime.nodes import mesh_on_nodes
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.blas import blas_threads
from parallel_params.train.build import Trainee, build, check_world, plan_of
from parallel_params.train.config.dump import dump_job
from parallel_params.train.config.job import Job
from parallel_params.train.console import Console, Row
from parallel_params.train.data.batches import Batches, load_samples
from parallel_params.train.data.sampler import Share
from parallel_params.train.data.samples import Samples
from parallel_params.train.environment import bit_facts, describe_environment
from parallel_params.train.evaluation import Verdict, evaluate
from parallel_params.train.journal import Journal
from parallel_params.train.kernels import kernels
from parallel_params.train.logs import run_log
from parallel_params.train.result import TrainResult
from parallel_params.train.run_folder import make_run_folder
from parallel_params.train.weights import encode_weights


def train(
    job: Job,
    comm: Communicator,
    console: Console,
    *,
    source: Path | None = None,
    now: Callable[[], datetime] = datetime.now,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainResult:
    """Train a job in a world and leave a run folder.

    Args:
        job: what to do.
        comm: all ranks; not closed.
        console: where rank 0 speaks.
        source: the job file, copied into the run folder as it is.
        now: names the run folder.
        clock: seconds, to measure with.

    Raises:
        ConfigError: the job does not fit the world.
        PlanError: what it asks for contradicts itself, or does not fit the memory.
        DataError: the data cannot be read.
        RunFolderExists: the job names a folder that is there; nothing was written.
        RunFolderError: a file of the run cannot be written.
        RankFailed: one rank failed; all raise.
        TrainingDiverged: the loss or a gradient is no number any more.

    Collective: every rank, with the same job.
    """
    check_world(job, comm.size)
    samples, trainee = _prepare(job, comm)
    folder = make_run_folder(job.run, comm, now())
    with (
        run_log(folder.path, comm.rank) as log,
        blas_threads(job.parallel.blas_threads, comm),
        kernels(job.parallel.kernels, comm),
        ParameterManager(
            trainee.net, trainee.optimizer, policy=trainee.policy, comm=comm
        ) as manager,
    ):
        log.info("rank %d of %d: %s", comm.rank, comm.size, comm.description)
        journal = Journal(job, folder, console.of_rank(comm.rank), samples)
        journal.open(
            manager.plan,
            {**describe_environment(comm), "bits": bit_facts(manager.plan)},
            trainee.rates,
            source=source,
            note=manager.note,
        )
        course = _Course(job, trainee, manager, samples, journal, clock)
        try:
            course.run()
        finally:
            journal.stop()
        log.info("%d steps in %.3f s", manager.num_steps, course.seconds)
        return _finish(course, manager, trainee, journal)


class _Course:
    """The steps of a run, and what they led to."""

    def __init__(
        self,
        job: Job,
        trainee: Trainee,
        manager: ParameterManager,
        samples: Samples,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        comm = manager.comm
        self._job = job
        self._trainee = trainee
        self._manager = manager
        self._samples = samples
        self._journal = journal
        self._clock = clock
        share = Share(index=comm.rank, count=comm.size)
        self._batches = Batches(job, samples, share)
        self.rows: list[Row] = []
        self.verdict: Verdict | None = None
        self.seconds = 0.0
        self._num_skipped = 0

    def run(self) -> None:
        """Take all steps; note a row every so often.

        Raises:
            TrainingDiverged: the loss or a gradient is no number any more.
        """
        start = noted_at = self._clock()
        noted_step, every = 0, self._job.log.every
        for step in range(1, self.num_steps + 1):
            loss = self._step(step)
            is_look = step % self._job.train.eval_every == 0 or step == self.num_steps
            if is_look or step % every == 0:
                elapsed = self._clock() - noted_at
                speed = (step - noted_step) * self._job.data.batch / max(elapsed, 1e-9)
                self._note(step, loss, speed, is_look=is_look)
                noted_step, noted_at = step, self._clock()
            self._journal.advance(step, loss)
        self.seconds = self._clock() - start

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return len(self._trainee.rates)

    def _step(self, step: int) -> float:
        x, y = self._batches.at((step - 1) * self._job.data.batch)
        where = f"step {step} (learning rate {self._trainee.rates[step - 1]:g})"
        try:
            with _overflow_allowed():
                loss = float(self._manager.step(self._loss, x, y))
        except NonFiniteGradient as error:
            raise TrainingDiverged(
                f"{where}: {error}; lower optim.lr, warm up longer, or choose "
                'optim.non_finite = "skip"'
            ) from error
        is_skipped = self._manager.num_skipped > self._num_skipped
        self._num_skipped = self._manager.num_skipped
        if not math.isfinite(loss) and not is_skipped:
            raise TrainingDiverged(
                f"the loss is {loss} at {where}; lower optim.lr, or warm up longer"
            )
        return loss

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        return ops.cross_entropy(self._trainee.net(x), y)

    def _note(self, step: int, loss: float, speed: float, *, is_look: bool) -> None:
        accuracy = None
        if is_look:
            with self._manager.unsharded(), _overflow_allowed():
                self.verdict = evaluate(
                    self._trainee.net, self._samples, self._manager.comm
                )
            accuracy = self.verdict.accuracy
        row = Row(
            step=step,
            num_steps=self.num_steps,
            loss=loss,
            lr=self._trainee.rates[step - 1],
            samples_per_s=speed,
            test_accuracy=accuracy,
        )
        self.rows.append(row)
        self._journal.note(row)


def _overflow_allowed() -> np.errstate:
    """Keep NumPy quiet: what overflows shows in the loss, which all ranks look at."""
    return np.errstate(over="ignore", invalid="ignore")


def _prepare(job: Job, comm: Communicator) -> tuple[Samples, Trainee]:
    """Read the data and build the model, or fail on all ranks.

    Collective: every rank.
    """
    agree_same(comm, dump_job(job), "the job")
    mesh = mesh_on_nodes(None, comm)
    error: Exception | None = None
    try:
        samples = load_samples(job.data)
        trainee = build(job, samples)
        plan_of(trainee, mesh)  # refused before a folder is made
    except Exception as raised:
        error = raised
    agree_ok(comm, error)
    agree_same(comm, samples.digest, "the checksum of the data")
    return samples, trainee


def _finish(
    course: _Course, manager: ParameterManager, trainee: Trainee, journal: Journal
) -> TrainResult:
    """Say and write down how the run ended.

    Collective: every rank.
    """
    assert course.verdict is not None, "the last step always looks"
    looks = [row for row in course.rows if row.test_accuracy is not None]
    best = max(looks, key=lambda row: row.test_accuracy or 0.0)
    num_samples = course.num_steps * journal.batch_size
    result = TrainResult(
        folder=journal.path,
        num_steps=course.num_steps,
        loss=course.rows[-1].loss,
        test_accuracy=course.verdict.accuracy,
        best_accuracy=best.test_accuracy or 0.0,
        best_step=best.step,
        weights_hash=manager.weights_hash(),
        plan_digest=manager.plan.digest,
        samples_per_s=num_samples / max(course.seconds, 1e-9),
        seconds=course.seconds,
    )
    with manager.unsharded():
        weights = encode_weights(
            trainee.net.get_parameters(),
            manager.plan,
            manager.comm,
            facts={"weights_hash": result.weights_hash, "plan": result.plan_digest},
        )
    journal.close(result, weights, course.verdict, manager.report())
    return result
