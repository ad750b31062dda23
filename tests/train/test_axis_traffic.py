"""What a rehearsal announces along an axis is what a step does there, in order."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from parallel_params.comm.ledger import Ledger
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parallel import open_axis
from parallel_params.plan.text import format_bytes
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.axis_traffic import rehearse_axis
from parallel_params.train.build import build, check_world
from parallel_params.train.config import Job, load_job
from parallel_params.train.data.batches import Batches
from parallel_params.train.data.load import load_data
from parallel_params.train.data.sampler import Share
from parallel_params.train.meshes import cut_axis_of
from parallel_params.train.models.judged import LossCell

CONFIGS = Path(__file__).parents[2] / "configs"
WORDS = (
    "data={name='tokens', path='t.bin', dtype='uint8', vocabulary=16, context=8, "
    "batch=8}",
    "model.layers=1",
    "model.width=16",
    "model.heads=4",
)
JOBS = {
    "model": ("gpt-tiny", WORDS),
    "words": ("gpt-tiny", (*WORDS, "model.cut_words=true")),
    "expert": ("gpt-experts", WORDS),
    "classes": (
        "classes",
        (
            "data={name='clusters', batch=32, classes=40, features=6, tests=9}",
            "model.sampled=8",
            "parallel.grains=8",
        ),
    ),
}


def make_job(which: str, ranks_along: int) -> Job:
    name, overrides = JOBS[which]
    axis = "model" if which == "words" else which
    mesh = f"{{data={4 // ranks_along}, {axis}={ranks_along}}}"
    return load_job(CONFIGS / f"{name}.toml", [*overrides, f"parallel.mesh={mesh}"])


@pytest.mark.parametrize("ranks_along", [2, 4])
@pytest.mark.parametrize("which", JOBS)
def test_announced_along_an_axis_is_sent_along_it(
    which: str, ranks_along: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = np.random.default_rng(3).integers(0, 16, 700).astype(np.uint8)
    Path("t.bin").write_bytes(words.tobytes())
    job = make_job(which, ranks_along)
    dataset = load_data(job.data)

    def body(comm: Communicator) -> None:
        mesh = check_world(job, comm.size, 2)
        name = cut_axis_of(job, mesh)
        assert name is not None
        ledger = Ledger(comm)
        axis = open_axis(ledger, mesh, name)
        done: list[str] = []
        meet = axis.rendezvous.meet

        def listen(doing: str) -> Communicator:
            done.append(doing)
            return meet(doing)

        monkeypatch.setattr(axis.rendezvous, "meet", listen)
        trainee = build(job, dataset, axis)
        net = trainee.net
        net.set_train()
        manager = ParameterManager(
            net, trainee.movers.optimizers, policy=trainee.policy, mesh=mesh, comm=comm
        )
        share = Share(index=mesh.share_index(comm.rank), count=mesh.num_shares)
        batch = Batches(job, dataset, share).at(0)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            if isinstance(net, LossCell):
                return net.loss(x, y)
            return trainee.task.loss(net(x), y)

        # Ranks agree on the mesh when they open an axis; that is no part of a step.
        calls, sent = Counter(ledger.calls), Counter(ledger.bytes_sent)
        manager.step(loss, *batch)
        announced = rehearse_axis(job, dataset, mesh, comm.rank)
        assert announced is not None
        assert announced.calls == Counter(ledger.calls) - calls
        assert announced.bytes_sent == Counter(ledger.bytes_sent) - sent
        course = announced.course[:-1]  # then every pass is ended together
        told = [f"{call.operator} of {call.what}" for call in course]
        assert done == told * announced.num_passes
        sizes = sum(call.bytes_sent for call in announced.course)
        assert sizes * announced.num_passes == announced.total_bytes_sent
        assert format_bytes(announced.total_bytes_sent) in announced.describe()
        crosses = announced.bytes_between_nodes > 0
        assert crosses == (ranks_along > 2)
        assert crosses == ("to other nodes" in announced.describe())

    run_threads(4, body)
