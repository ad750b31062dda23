"""When a run saves a checkpoint, and what another goes on from.

What a checkpoint is and how it is written is `parallel_params/checkpoint/`; here is
what a job means by it: every so many steps, on a signal, the newest of earlier runs.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from parallel_params.checkpoint.checkpointer import Checkpointer
from parallel_params.checkpoint.exchange import exchange
from parallel_params.checkpoint.folder import IN_RUN, find_newest, folder_in
from parallel_params.checkpoint.matching import match
from parallel_params.checkpoint.reading import Reader
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointError,
    ConfigError,
    PlanError,
    TrainingStopped,
)
from parallel_params.manager import ParameterManager
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.record import Record
from parallel_params.train.build import Trainee, plan_of
from parallel_params.train.config.job import Job
from parallel_params.train.course import Course, Look
from parallel_params.train.environment import bit_facts, different_facts
from parallel_params.train.run_folder import list_run_folders

AUTO = "auto"

# What may change between two parts of a run without a word.
_FREE = ("parallel", "checkpoint", "log", "run", "title")


def find_origin(
    job: Job, trainee: Trainee, comm: Communicator, mesh: Mesh, resume: str | None
) -> Path | None:
    """Find the checkpoint that a run goes on from, and check that it is one of the job.

    Args:
        job: what is trained.
        trainee: its model, optimizer and data.
        comm: all ranks; the first one looks.
        mesh: of the job.
        resume: a checkpoint, a folder of them, a run folder, `auto`, or None.

    Raises:
        CheckpointError: there is none, or it does not fit the model.
        ConfigError: it is of other data, another seed or batch, or has no step left.

    Collective: every rank.
    """
    if resume is None:
        return None
    error: Exception | None = None
    told = "null"
    if comm.rank == 0:
        try:
            path = _newest_run(job) if resume == AUTO else _named(Path(resume))
            if path is not None:
                reader = Reader.open(path)
                _check_job(job, trainee, reader)
                match(
                    reader.manifest,
                    plan_of(trainee, mesh),
                    where=str(path),
                    is_strict=True,
                    weights_only=False,
                    layerwise=job.checkpoint.layerwise,
                )
                told = json.dumps(str(path))
        except Exception as raised:
            error = raised
    answer = json.loads(exchange(comm, told.encode(), error)[0])
    return None if answer is None else Path(answer)


def _newest_run(job: Job) -> Path | None:
    """Return the newest checkpoint of the job's runs, the last run that has one."""
    folders = [run / IN_RUN for run in reversed(list_run_folders(job.run))]
    if job.checkpoint.folder is not None:
        folders = [Path(job.checkpoint.folder)]
    newest = (Checkpointer(folder).newest() for folder in folders)
    return next((path for path in newest if path is not None), None)


def _named(path: Path) -> Path:
    return find_newest(folder_in(path))


def _facts(job: Job, trainee: Trainee) -> dict[str, object]:
    """Say what was trained, as JSON values."""
    settings = dataclasses.asdict(job)
    for table in _FREE:
        settings.pop(table)
    plain: object = json.loads(json.dumps(settings, default=str))
    return {"data": trainee.dataset.digest, "job": plain}


def _check_job(job: Job, trainee: Trainee, reader: Reader) -> None:
    """Refuse to go on with other samples, or where no step is left."""
    extras, where = reader.manifest.extras, str(reader.folder)
    saved, now = extras.get("facts"), _facts(job, trainee)
    if not isinstance(saved, dict):
        raise CheckpointError(f"{where} was not saved by `pparams train`")
    step, _, _ = _course_in(extras, where)
    problems = []
    if saved.get("data") != now["data"]:
        problems.append(f"data: {reader.folder} was trained on other data")
    was, is_ = _mapping(saved.get("job")), _mapping(now["job"])
    for table, key in (("", "seed"), ("data", "batch")):
        before = (_mapping(was.get(table)) if table else was).get(key)
        after = (_mapping(is_.get(table)) if table else is_).get(key)
        if before != after:
            name = f"{table}.{key}" if table else key
            problems.append(
                f"{name}: was {before} in {reader.folder} and is {after}, so the "
                "samples would come in another order"
            )
    num_steps = len(trainee.rates)
    if not problems and step >= num_steps:
        problems.append(
            f"train.steps: {reader.folder} is at step {step} of {num_steps}, so there "
            "is nothing left to do; ask for more"
        )
    if problems:
        raise ConfigError(problems)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


class Keeping:
    """The checkpoints of one run.

    Args:
        job: its [checkpoint] table.
        trainee: what is trained.
        manager: of the trainee.
        folder: of the run.
        stop: tells whether this process was asked to stop; None if nobody can ask.
        log: of this rank.
    """

    def __init__(
        self,
        job: Job,
        trainee: Trainee,
        manager: ParameterManager,
        folder: Path,
        *,
        stop: Callable[[], bool] | None,
        log: logging.Logger,
    ) -> None:
        self._job, self._trainee, self._manager = job, trainee, manager
        self._stop, self._log = stop, log
        self._facts = _facts(job, trainee)
        wanted = job.checkpoint
        self._keeper = Checkpointer(
            wanted.folder if wanted.folder is not None else folder / IN_RUN,
            keep=wanted.keep,
            keep_best=wanted.keep_best,
            asynchronous=wanted.background,
            layout=wanted.layout,
            way=wanted.way,
        )

    def clean(self) -> list[str]:
        """Take away what an interrupted save has left; say so in a line.

        Collective: every rank.
        """
        removed = self._keeper.clean(self._manager.comm)
        names = ", ".join(path.name for path in removed)
        return [f"removed what an interrupted save left: {names}"] if removed else []

    def resume(
        self, course: Course, origin: Path | None, *, is_asked: bool
    ) -> list[str]:
        """Load what the run goes on from, if anything; return what there is to say.

        Raises:
            CheckpointError: it cannot be loaded.
            ConfigError: the job refuses other bits, and they would be others.

        Collective: every rank.
        """
        if origin is None:
            return ["no checkpoint to go on from: starts anew"] if is_asked else []
        policy = self._job.checkpoint.layerwise
        loaded = self._manager.load(origin, layerwise=policy)
        manifest = loaded.manifest
        changed = self._differences(manifest.extras)
        if changed and self._job.checkpoint.other_bits == "refuse":
            raise ConfigError(
                [
                    f"checkpoint.other_bits: {origin} would go on with other bits: "
                    f"{'; '.join(changed)}"
                ]
            )
        course.restore(*_course_in(manifest.extras, str(origin)))
        self._trainee.movers.restore(manifest.extras.get("plateaus"), str(origin))
        notes = [f"goes on from {origin}, step {course.step}", *loaded.notes]
        notes += [f"other bits than without a stop: {line}" for line in changed]
        recorded = _mapping(manifest.extras.get("facts"))
        settings = _mapping(recorded.get("job")), _mapping(self._facts["job"])
        notes += [f"the job's {line}" for line in different_facts(*settings)]
        return notes

    def after_step(self, course: Course) -> None:
        """Save if it is time, or if a rank was asked to stop.

        Raises:
            TrainingStopped: on all ranks, behind the save.
            CheckpointNotSaved: it cannot be written.

        Collective: every rank.
        """
        comm, every = self._manager.comm, self._job.checkpoint.every
        is_last = course.step == course.num_steps
        is_due = every is not None and (course.step % every == 0 or is_last)
        must_stop = self._must_stop() and not is_last
        if is_due or must_stop:
            saved = self._keeper.save(
                self._manager,
                cursor=course.step * self._job.data.batch,
                metric=course.score,
                extras={
                    "course": course.snapshot(),
                    "plateaus": self._trainee.movers.snapshot(),
                    "bits": bit_facts(self._manager.plan),
                    "facts": self._facts,
                },
            )
            self._log.info(
                "%s: %d bytes, training stopped for %.1f ms, copy of %d bytes",
                saved.path,
                saved.num_bytes,
                saved.stopped_s * 1e3,
                saved.copied_bytes,
            )
        if must_stop:
            self._keeper.finish(comm)
            raise TrainingStopped(
                f"stopped as asked; step {course.step} is saved in {saved.path}. The "
                "same command with --resume auto goes on from there"
            )
        if course.step % self._job.log.every == 0:
            self._keeper.poll(comm)

    def finish(self) -> None:
        """Wait for a save that is under way.

        Collective: every rank.
        """
        self._keeper.finish(self._manager.comm)

    def _must_stop(self) -> bool:
        """Tell whether any rank was asked to stop, on all of them alike."""
        if self._stop is None:
            return False
        asked = np.array([int(self._stop())], np.int64)
        if self._manager.comm.size > 1:
            self._manager.comm.all_reduce(asked, op="max")
        return bool(asked[0])

    def _differences(self, extras: Mapping[str, object]) -> list[str]:
        recorded = _mapping(extras.get("bits"))
        now: object = json.loads(json.dumps(bit_facts(self._manager.plan), default=str))
        return different_facts(recorded, _mapping(now))


def _course_in(
    extras: Mapping[str, object], where: str
) -> tuple[int, Look | None, int]:
    """Read what `Course.snapshot` gave: steps, best look, looks since then."""
    try:
        keys = ("step", "best", "idle_looks")
        record = Record(extras.get("course"), f"{where}: course", keys)
        step, idle_looks = record.number("step"), record.number("idle_looks")
        best = record.optional_record("best", ("step", "score"))
        look = None
        if best is not None:
            look = Look(best.number("step"), best.real("score"))
    except PlanError as error:
        raise CheckpointError(str(error)) from error
    return step, look, idle_looks
