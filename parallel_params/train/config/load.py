"""A job file and overrides in, a validated `Job` out, or all that is wrong at once.

Only here is pydantic asked anything; a `Job` is trusted everywhere else.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from parallel_params.errors import ConfigError
from parallel_params.train.config.job import Job
from parallel_params.train.config.overrides import JobSource, apply_overrides
from parallel_params.train.config.problems import Problem, problem_from
from parallel_params.train.config.rules import contradictions
from parallel_params.train.config.shipped import find_job
from parallel_params.train.config.text import read_job_text


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read a job file, lay `key=value` overrides over it, and check all of it.

    Args:
        path: a TOML file, or JSON if its name ends in `.json`, or the bare name of a
            shipped job.
        overrides: words like `optim.lr=0.003`; the values are TOML, else plain text.

    Raises:
        ConfigError: with one sentence per problem, in the order of the file.
    """
    path = find_job(Path(path))
    source, bad_words = apply_overrides(read_job_text(path), overrides)
    job, problems = _validate(source)
    sentences = [problem.at(source.place(problem.key)) for problem in problems]
    if job is None or bad_words:
        raise ConfigError([*sentences, *bad_words])
    if job.run.name is None:
        job = dataclasses.replace(job, run=dataclasses.replace(job.run, name=path.stem))
    return job


def _validate(source: JobSource) -> tuple[Job | None, list[Problem]]:
    job: Job | None = None
    problems: list[Problem] = []
    # As JSON, because only there pydantic is strict about numbers and texts and still
    # takes a list for a tuple and a table for a dataclass.
    text = json.dumps(source.table, default=str)
    try:
        job = job_adapter().validate_json(text, strict=True)
    except ValidationError as error:
        problems = [problem_from(details) for details in error.errors()]
    problems += contradictions(source.table, [problem.key for problem in problems])
    problems.sort(key=lambda problem: source.order(problem.key))
    return (None if problems else job), problems


@cache
def job_adapter() -> TypeAdapter[Job]:
    """Give pydantic's validator of a job, made once (it takes some milliseconds)."""
    return TypeAdapter(Job)
