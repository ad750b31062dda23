"""One rank of a training world: join it, train, end all of it when something fails."""

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from parallel_params.cli import ends
from parallel_params.cli.stopping import StopSignals
from parallel_params.comm.agree import agree_ok
from parallel_params.comm.failure import abort_on_failure
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.world import open_world
from parallel_params.errors import (
    LaunchError,
    ParallelParamsError,
    RankFailed,
    TrainingStopped,
)
from parallel_params.tensor.allocator import keep_freed_memory
from parallel_params.train.config import Job
from parallel_params.train.console import Console
from parallel_params.train.loop import train
from parallel_params.train.result import TrainResult


def work(
    load: Callable[[], Job],
    console: Console,
    *,
    source: Callable[[], Path],
    num_ranks: int | None,
    is_json: bool,
    resume: str | None,
    environ: Mapping[str, str],
) -> int:
    """Train a job as a rank of the world this process is in; return the exit code.

    A job that one rank alone cannot read ends all of them: the others would wait for
    it to join the world.

    Args:
        load: reads and checks what to train.
        console: where rank 0 speaks.
        source: finds the job file, once it was read.
        num_ranks: the size the world has to have, None for any.
        is_json: whether rank 0 prints the result as one line of JSON.
        resume: the checkpoint to go on from, see `train`.
        environ: the environment.

    Raises:
        LaunchError: there is no world, or not the one that was asked for.
        ParallelParamsError: what a world of one rank meets; a larger one is ended.

    Collective: every process of the world.
    """
    found: Job | ParallelParamsError
    try:
        found = load()
    except ParallelParamsError as error:
        found = error
    comm = open_world(environ)
    _check_size(comm, num_ranks)

    def train_agreed() -> int:
        agree_ok(comm, None if isinstance(found, Job) else found)
        assert isinstance(found, Job), "else all ranks have raised"
        start = functools.partial(train, found, comm, console, source=source())
        return _run(start, found, comm, resume=resume, is_json=is_json)

    if comm.size == 1:
        return train_agreed()
    with abort_on_failure(comm):
        try:
            return train_agreed()
        except RankFailed as failure:
            # Other ranks wait a moment before they say that this one has failed.
            if isinstance(failure.__cause__, ParallelParamsError):
                own = failure.__cause__
                comm.abort(ends.sentence_of(own), ends.code_of(own))
            raise
        except ParallelParamsError as error:
            _end(comm, ends.sentence_of(error), ends.code_of(error))
        except KeyboardInterrupt:
            _end(comm, "pparams: interrupted", ends.INTERRUPTED)


def _run(
    start: Callable[..., TrainResult],
    job: Job,
    comm: Communicator,
    *,
    resume: str | None,
    is_json: bool,
) -> int:
    """Train, or stop as asked: then all ranks are here, and nobody has to be ended."""
    if job.parallel.keep_memory:
        keep_freed_memory()
    try:
        with StopSignals() as stop:
            result = start(resume=resume, stop=stop)
    except TrainingStopped as stopped:
        if comm.rank == 0:
            sys.stderr.write(f"{ends.sentence_of(stopped)}\n")
        return ends.STOPPED
    if is_json and comm.rank == 0:
        line = {**dataclasses.asdict(result), "num_ranks": comm.size}
        print(json.dumps(line, default=str), flush=True)
    return ends.OK


def _check_size(comm: Communicator, num_ranks: int | None) -> None:
    if num_ranks is not None and comm.size != num_ranks:
        raise LaunchError(
            f"{num_ranks} ranks were asked for and this world has {comm.size} "
            f"({comm.description}): the launcher and the MPI library do not belong "
            f"together. Use the mpiexec of the library; under Slurm, srun --mpi=pmi2 "
            f"(MPICH) or --mpi=pmix (Open MPI)."
        )


def _end(comm: Communicator, message: str, code: int) -> NoReturn:
    """End the world with one sentence, whether all ranks have a reason or this one."""
    if comm.rank != 0:
        time.sleep(ends.PATIENCE_S)
    comm.abort(message, code)
