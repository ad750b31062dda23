"""A run from job to run folder: prepare on all ranks, train, say how it ended.

What is trained is built in `build`, its steps are `course`'s, what a run says and
leaves behind is written in `journal`; here is only what happens in which order.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

from parallel_params.comm.agree import agree_ok, agree_same
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import DataError
from parallel_params.nn.parallel import Axis, open_axis
from parallel_params.plan.mesh import Mesh
from parallel_params.runtime.nodes import mesh_on_nodes
from parallel_params.train.blas import blas_threads
from parallel_params.train.build import Trainee, build, check_world
from parallel_params.train.config.dump import dump_job
from parallel_params.train.config.job import Job
from parallel_params.train.console import Console
from parallel_params.train.course import Course
from parallel_params.train.data.dataset import Dataset
from parallel_params.train.data.load import load_data
from parallel_params.train.data.sampler import Share
from parallel_params.train.environment import bit_facts, describe_environment
from parallel_params.train.journal import Journal
from parallel_params.train.keeping import Keeping
from parallel_params.train.kernels import kernels
from parallel_params.train.logs import run_log
from parallel_params.train.meshes import cut_axis_of
from parallel_params.train.origins import find_origin
from parallel_params.train.result import TrainResult
from parallel_params.train.round_plan import check_plan
from parallel_params.train.rounds import Manager, open_manager
from parallel_params.train.run_folder import make_run_folder
from parallel_params.train.weights import encode_weights


def train(
    job: Job,
    comm: Communicator,
    console: Console,
    *,
    source: Path | None = None,
    resume: str | None = None,
    stop: Callable[[], bool] | None = None,
    now: Callable[[], datetime] = datetime.now,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainResult:
    """Train a job in a world and leave a run folder.

    Args:
        job: what to do.
        comm: all ranks; not closed.
        console: where rank 0 speaks.
        source: the job file, copied into the run folder as it is.
        resume: the checkpoint, or a folder of them, to go on from; `auto` for the
            newest of this job, if there is any.
        stop: asked behind every step; where it says so on any rank, the run saves a
            checkpoint and ends.
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
        TrainingStopped: it was asked to stop, and has saved a checkpoint.
        CheckpointError: there is none to go on from, or none of this job.
        CheckpointNotSaved: a checkpoint cannot be written.

    Collective: every rank, with the same job.
    """
    mesh = mesh_on_nodes(check_world(job, comm.size), comm)
    trainee, axis = _prepare(job, comm, mesh)
    origin = find_origin(job, trainee, comm, mesh, resume)
    folder = make_run_folder(job.run, comm, now(), is_resumed=resume is not None)
    with (
        nullcontext() if axis is None else axis,
        run_log(folder.path, comm.rank) as log,
        blas_threads(job.parallel.blas_threads, comm),
        kernels(job.parallel.kernels, comm),
        open_manager(job, trainee, comm, mesh) as manager,
    ):
        log.info("rank %d of %d: %s", comm.rank, comm.size, comm.description)
        journal = Journal(job, folder, console.of_rank(comm.rank), trainee)
        keeping = Keeping(job, trainee, manager, folder.path, stop=stop, log=log)
        course = Course(
            job,
            trainee,
            manager,
            share=Share(index=mesh.share_index(comm.rank), count=mesh.num_shares),
            journal=journal,
            clock=clock,
            after_step=keeping.after_step,
        )
        notes = keeping.clean() + keeping.resume(course, origin, is_asked=bool(resume))
        _open(journal, trainee, manager, source, notes)
        _run(course, journal, keeping)
        log.info("%d steps in %.3f s", manager.num_steps, course.seconds)
        return _finish(course, manager, trainee, journal)


def _open(
    journal: Journal,
    trainee: Trainee,
    manager: Manager,
    source: Path | None,
    notes: Sequence[str],
) -> None:
    """Say and write down what is known before the first step.

    Collective: every rank.
    """
    journal.open(
        manager.plan,
        _environment(trainee, manager),
        trainee.rates,
        source=source,
        notes=[note for note in (manager.note, *notes) if note],
    )


def _run(course: Course, journal: Journal, keeping: Keeping) -> None:
    """Take all steps; let a save that is under way come to its end.

    Collective: every rank.
    """
    try:
        course.run()
    finally:
        journal.stop()
    keeping.finish()


def _environment(trainee: Trainee, manager: Manager) -> dict[str, object]:
    """Collect what may decide the numbers of a run, the data among it.

    Collective: every rank.
    """
    dataset = trainee.dataset
    return {
        **describe_environment(manager.comm),
        "data": {**dataset.facts, "digest": dataset.digest},
        "bits": bit_facts(manager.plan),
    }


def _prepare(job: Job, comm: Communicator, mesh: Mesh) -> tuple[Trainee, Axis | None]:
    """Read the data and build the model along its axis, or fail on all ranks.

    Collective: every rank.
    """
    agree_same(comm, dump_job(job), "the job")
    name = cut_axis_of(job, mesh)
    axis = None if name is None else open_axis(comm, mesh, name)
    error: Exception | None = None
    try:
        trainee = build(job, load_data(job.data), axis)
        _check_batch(job, trainee.dataset)  # a plan may look further than the data
        check_plan(job, trainee, mesh)  # refused before a folder is made
    except Exception as raised:
        error = raised
    agree_ok(comm, error)
    agree_same(comm, trainee.dataset.digest, "the checksum of the data")
    _look_at_data(trainee.dataset, comm)
    return trainee, axis


def _check_batch(job: Job, dataset: Dataset) -> None:
    if dataset.num_train < job.data.batch:
        raise DataError(
            f"{dataset.num_train} samples to learn from are too few for batches of "
            f"{job.data.batch}; give more, or a smaller data.batch"
        )


def _look_at_data(dataset: Dataset, comm: Communicator) -> None:
    """Let every rank look at its part of the data, and raise what any of them finds.

    Raises:
        DataError: on every rank, what the lowest rank with a problem has found.

    Collective: every rank.
    """
    problem, error = "", None
    try:
        problem = dataset.problem(Share(index=comm.rank, count=comm.size))
    except Exception as raised:  # a file that was cut meanwhile
        error = raised
    agree_ok(comm, error)
    found = [each.decode() for each in comm.all_gather_bytes(problem.encode()) if each]
    if found:
        raise DataError(found[0])


def _finish(
    course: Course, manager: Manager, trainee: Trainee, journal: Journal
) -> TrainResult:
    """Say and write down how the run ended.

    Collective: every rank.
    """
    metric = trainee.task.metric.name
    evaluation, best = course.evaluation, course.best
    assert evaluation is not None, "the last step always looks"
    assert best is not None, "the last step always looks"
    num_samples = (course.step - course.first_step) * journal.batch_size
    # What is kept is what was evaluated: the average, where there is one.
    with manager.evaluation():
        result = TrainResult(
            folder=journal.path,
            num_steps=course.step,
            loss=course.loss,
            metric=metric,
            test_score=evaluation.scores[metric],
            best_score=best.score,
            best_step=best.step,
            weights_hash=manager.weights_hash(),
            plan_digest=manager.plan.digest,
            samples_per_s=num_samples / max(course.seconds, 1e-9),
            seconds=course.seconds,
        )
        weights = encode_weights(
            trainee.net.get_parameters(),
            manager.plan,
            manager.comm,
            facts={"weights_hash": result.weights_hash, "plan": result.plan_digest},
        )
    journal.close(result, weights, evaluation, manager.report())
    return result
