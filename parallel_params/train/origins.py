"""What a run goes on from: the newest checkpoint of earlier runs, or a named one."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from parallel_params.checkpoint.checkpointer import Checkpointer
from parallel_params.checkpoint.exchange import exchange
from parallel_params.checkpoint.folder import IN_RUN, find_newest, folder_in
from parallel_params.checkpoint.forms import packings_of
from parallel_params.checkpoint.matching import match
from parallel_params.checkpoint.reading import Reader
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointError, ConfigError, PlanError
from parallel_params.outer.parts import Parts
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan
from parallel_params.plan.record import Record
from parallel_params.train.build import Trainee, plan_of
from parallel_params.train.config.job import Job
from parallel_params.train.course import Look
from parallel_params.train.round_plan import plan_rounds
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
                    _plan_to_match(job, trainee, mesh, reader),
                    where=str(path),
                    is_strict=True,
                    weights_only=False,
                    layerwise=job.checkpoint.layerwise,
                    packings=packings_of(trainee.net),
                )
                told = json.dumps(str(path))
        except Exception as raised:
            error = raised
    answer = json.loads(exchange(comm, told.encode(), error)[0])
    return None if answer is None else Path(answer)


def _plan_to_match(job: Job, trainee: Trainee, mesh: Mesh, reader: Reader) -> Plan:
    """Return the plan of what a checkpoint has; of an outer loop that of the anchor.

    Raises:
        CheckpointError: it is of no outer loop, and the job has one.
        CheckpointMismatch: it is of other workers.
    """
    if job.outer.every is None:
        return plan_of(trainee, mesh)
    plan = plan_rounds(job, trainee, mesh.size, mesh.ranks_per_node)
    parts = Parts.read(reader.manifest.extras, reader.folder)
    parts.check(reader.folder, plan.num_workers, job.outer.every)
    return plan.outer


def _newest_run(job: Job) -> Path | None:
    """Return the newest checkpoint of the job's runs, the last run that has one."""
    folders = [run / IN_RUN for run in reversed(list_run_folders(job.run))]
    if job.checkpoint.folder is not None:
        folders = [Path(job.checkpoint.folder)]
    newest = (Checkpointer(folder).newest() for folder in folders)
    return next((path for path in newest if path is not None), None)


def _named(path: Path) -> Path:
    return find_newest(folder_in(path))


def facts_of(job: Job, trainee: Trainee) -> dict[str, object]:
    """Say what was trained, as JSON values."""
    settings = dataclasses.asdict(job)
    for table in _FREE:
        settings.pop(table)
    plain: object = json.loads(json.dumps(settings, default=str))
    return {"data": trainee.dataset.digest, "job": plain}


def _check_job(job: Job, trainee: Trainee, reader: Reader) -> None:
    """Refuse to go on with other samples, or where no step is left."""
    extras, where = reader.manifest.extras, str(reader.folder)
    saved, now = extras.get("facts"), facts_of(job, trainee)
    if not isinstance(saved, dict):
        raise CheckpointError(f"{where} was not saved by `pparams train`")
    step, _, _ = course_in(extras, where)
    problems = []
    if saved.get("data") != now["data"]:
        problems.append(f"data: {reader.folder} was trained on other data")
    was, is_ = as_mapping(saved.get("job")), as_mapping(now["job"])
    for table, key in (("", "seed"), ("data", "batch")):
        before = (as_mapping(was.get(table)) if table else was).get(key)
        after = (as_mapping(is_.get(table)) if table else is_).get(key)
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


def as_mapping(value: object) -> Mapping[str, object]:
    """Return an object of JSON, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def course_in(extras: Mapping[str, object], where: str) -> tuple[int, Look | None, int]:
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
