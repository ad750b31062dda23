"""One log per rank, warnings of every rank on one stream with its name in front."""

import io
import logging
from pathlib import Path

from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.train.logs import run_log

PACKAGE = logging.getLogger("parallel_params")


def test_each_rank_has_its_own_file(tmp_path: Path) -> None:
    stream = io.StringIO()

    def body(comm: Communicator) -> None:
        with run_log(tmp_path, comm.rank, stream=stream) as log:
            comm.barrier()
            log.info("hello from %d", comm.rank)
            comm.barrier()

    run_threads(3, body)
    for rank in range(3):
        text = (tmp_path / "logs" / f"rank-000{rank}.log").read_text(encoding="utf-8")
        assert text.count("hello from") == 1
        assert f"INFO parallel_params.train: hello from {rank}" in text
    assert stream.getvalue() == ""


def test_warnings_are_seen_with_the_rank_in_front(tmp_path: Path) -> None:
    stream = io.StringIO()

    def body(comm: Communicator) -> None:
        with run_log(tmp_path, comm.rank, stream=stream) as log:
            if comm.rank == 1:
                log.warning("slow")
                logging.getLogger("parallel_params.comm").warning("late")
            comm.barrier()

    run_threads(2, body)
    assert stream.getvalue() == "[rank 1] WARNING slow\n[rank 1] WARNING late\n"
    other = (tmp_path / "logs" / "rank-0000.log").read_text(encoding="utf-8")
    assert other == ""


def test_the_loggers_of_the_package_are_left_as_they_were(tmp_path: Path) -> None:
    before = (list(PACKAGE.handlers), PACKAGE.level)
    with run_log(tmp_path, 0, stream=io.StringIO()):
        assert len(PACKAGE.handlers) == len(before[0]) + 2
    assert (list(PACKAGE.handlers), PACKAGE.level) == before
