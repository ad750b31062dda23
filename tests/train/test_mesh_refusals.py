"""A mesh that does not fit is refused by all ranks of a real world, in the same words.

In a file of its own, without folders: ranks that make them at once disturb each other.
"""

import io
from pathlib import Path

import pytest
from ranked import OnRanks, assert_on_all_ranks

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import ParallelParamsError
from parallel_params.train.config import Job, load_job
from parallel_params.train.console import Console
from parallel_params.train.loop import train

CONFIGS = Path(__file__).parents[2] / "configs"


def job_of(num_classes: int, *overrides: str) -> Job:
    data = f"data={{name='clusters', batch=60, classes={num_classes}, tests=9}}"
    return load_job(
        CONFIGS / "classes.toml",
        [data, "model.sampled=1", "train.steps=30", *overrides],
    )


def words_of(num_ranks: int) -> Job:
    """Return a job whose vocabulary, of 103 words, is known with its data alone."""
    return load_job(
        CONFIGS / "gpt-mesh.toml",
        [
            "model.cut_words=true",
            f"model.heads={num_ranks}",
            f"model.width={8 * num_ranks}",
            f"model.hidden={8 * num_ranks}",
            f"parallel.mesh={{data=0, model={num_ranks}}}",
        ],
    )


@pytest.mark.mpi
def test_all_ranks_refuse_the_same_way(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        wrong = [
            job_of(60, "parallel.mesh={data=7, classes=2}"),
            job_of(60, "parallel.mesh={data=0}"),
            job_of(comm.size + 1),
            words_of(comm.size),
        ]
        for job in wrong if comm.size > 1 else wrong[:-2]:
            told = ""
            try:
                train(job, comm, Console(stream=io.StringIO()))
            except ParallelParamsError as error:
                told = str(error)
            everybody = set(comm.all_gather_bytes(told.encode()))
            is_right = bool(told) and len(everybody) == 1
            assert_on_all_ranks(comm, is_right, f"told {everybody}")

    on_ranks(body)
