"""A folder of checkpoints, and all that a run goes on with beside its weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_states import tensors_in
from small_nets import make_net

import parallel_params as pp
from parallel_params import nn, ops, optim
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.folder import list_checkpoints
from parallel_params.checkpoint.saving import Draft
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointError, RankFailed
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.guards import LossScale
from parallel_params.plan.policy import Policy
from parallel_params.tensor.random import get_position, next_stream, set_seed
from parallel_params.tensor.tensor import Tensor


def tiny(comm: Communicator, rate: float = 0.1, **policy: object) -> ParameterManager:
    """Return a manager of one parameter of 6 elements."""
    w = Parameter(Tensor(np.arange(6, dtype=np.float32)), name="w")
    return ParameterManager(
        [w],
        optim.Momentum([w], rate, 0.9),
        comm=comm,
        policy=Policy(shard_threshold_bytes=0, alignment=1, **policy),  # type: ignore[arg-type]  # a policy's
    )


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    metrics = [0.1, 0.9, 0.3, 0.9, 0.2, 0.4, 0.5]

    def body(comm: Communicator) -> None:
        manager, keeper = tiny(comm), pp.Checkpointer(tmp_path, keep=2)
        for metric in metrics:
            manager.update({"w": np.ones(6)})
            keeper.save(manager, metric=metric)

    run_threads(2, body)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["latest", "step-000004", "step-000006", "step-000007"]
    assert (tmp_path / "latest").read_text() == "step-000007\n"


def test_the_newest_is_the_one_saved_last_whatever_its_step(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        manager, keeper = tiny(comm), pp.Checkpointer(tmp_path, keep=None)
        for _ in range(2):
            manager.update({"w": np.ones(6)})
            keeper.save(manager, extras={"run": "first"})
        manager.load(tmp_path / "step-000001")
        keeper.save(manager, extras={"run": "second"})
        loaded = keeper.load(manager)
        assert loaded.path.name == "step-000001-2"
        assert loaded.manifest.extras == {"run": "second"}
        # `latest` is for people: nobody reads it here.
        (tmp_path / "latest").write_text("../../etc\n")
        assert keeper.newest() == loaded.path

    run_threads(1, body)


def test_a_damaged_newest_one_is_passed_over_but_its_data_are_not(
    tmp_path: Path,
) -> None:
    """What shows without reading the data: manifest, lengths, heads."""

    def body(comm: Communicator) -> None:
        manager, keeper = tiny(comm), pp.Checkpointer(tmp_path)
        for _ in range(2):
            manager.update({"w": np.ones(6)})
            keeper.save(manager)
        os.truncate(tmp_path / "step-000002" / "model.safetensors", 5000)
        assert keeper.load(manager).manifest.step == 1
        (tmp_path / "step-000001" / "manifest.json").write_bytes(b"{}")
        with pytest.raises(CheckpointError, match="no checkpoint that is whole"):
            keeper.load(manager)

    run_threads(1, body)
    assert [found.manifest for found in list_checkpoints(tmp_path)] == [None, None]


def test_left_overs_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "step-000009.tmp").mkdir()
    (tmp_path / "step-000009.tmp" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "notes.tmp").mkdir()
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"")
    (tmp_path / "step-000007.tmp").symlink_to(outside)

    def body(comm: Communicator) -> list[Path]:
        return pp.Checkpointer(tmp_path).clean(comm)

    names = [[path.name for path in found] for found in run_threads(2, body)]
    assert names == [["step-000007.tmp", "step-000009.tmp"]] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.tmp"]
    assert (outside / "kept").exists()


class SlowFiles(Files):
    """Waits with every write until it may go on."""

    def __init__(self, may_write: Callable[[], object]) -> None:
        self._may_write = may_write

    def sync(self, descriptor: int) -> None:
        self._may_write()
        super().sync(descriptor)


def test_an_asynchronous_save_is_of_one_step_and_commits_on_all_ranks(
    tmp_path: Path,
) -> None:
    import threading

    gate = threading.Event()

    def body(comm: Communicator) -> tuple[bytes, bytes]:
        manager = tiny(comm, level=2)
        manager.update({"w": np.ones(6)})
        manager.save(tmp_path / f"reference{comm.size}")
        # The first rank's disk is slow: it has made the files, but not written yet.
        gate.set() if comm.rank else None
        files = SlowFiles(lambda: gate.wait(20)) if comm.rank else Files()
        keeper = pp.Checkpointer(tmp_path / "kept", asynchronous=True, files=files)
        saved = keeper.save(manager)
        assert saved.copied_bytes == saved.num_bytes > 0
        assert not saved.path.exists()
        for _ in range(3):
            manager.update({"w": np.ones(6)})
        keeper.finish(comm)
        assert keeper.poll(comm)
        comm.barrier()
        assert keeper.load(manager).manifest.step == 1
        return tuple(  # type: ignore[return-value]  # two
            tensors_in(path)["/w"]
            for path in (saved.path, tmp_path / f"reference{comm.size}")
        )

    for found, expected in run_threads(2, body):
        assert found == expected


class NoRoom(np.ndarray):
    """An array that there is no memory to copy."""

    def copy(self, order: object = "C") -> "NoRoom":
        """Find no memory."""
        raise MemoryError("Unable to allocate")


def test_a_rank_without_memory_for_the_copy_tells_all_ranks(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        manager = tiny(comm, level=2)
        keeper = pp.Checkpointer(tmp_path, asynchronous=True)
        begin = manager.begin_save

        def begin_short_of_memory(*args: Any, **options: Any) -> Draft:
            draft = begin(*args, **options)
            draft._parts = tuple(
                part._replace(values=part.values.view(NoRoom)) for part in draft._parts
            )
            return draft

        if comm.rank == 1:
            manager.begin_save = begin_short_of_memory  # type: ignore[method-assign]  # the disturbance
        keeper.save(manager)
        with pytest.raises(RankFailed, match=r"rank 1 .* MemoryError: Unable to alloc"):
            keeper.finish(comm)
        comm.barrier()
        assert list_checkpoints(tmp_path) == []

    run_threads(2, body)


def test_counts_scale_rates_and_random_numbers_go_on(tmp_path: Path) -> None:
    def train(comm: Communicator, manager: ParameterManager, num_steps: int) -> None:
        for number in range(num_steps):
            bad = manager.num_steps == 2 and not manager.num_skipped
            manager.update({"w": np.full(6, np.inf if bad else number + 1.0)})

    scale = LossScale(initial=1024.0, growth=2.0, backoff=0.5, interval=3)

    def body(comm: Communicator) -> None:
        set_seed(11)
        manager = tiny(comm, loss_scale=scale, non_finite="skip")
        train(comm, manager, 4)
        manager._course.optimizers[0].learning_rate.set_data(0.025)
        manager.save(tmp_path / "saved", cursor=12, metric=0.5, extras={"a": [1, None]})
        train(comm, manager, 4)

        set_seed(3)
        other = tiny(comm, 0.5, loss_scale=scale, non_finite="skip")
        loaded = other.load(tmp_path / "saved")
        assert get_position()[0] == 11
        assert other.num_steps == 3
        assert other.num_skipped == 1
        assert other.loss_scale == 512.0
        assert loaded.notes == ("learning_rate is 0.025 again, as saved, not 0.5",)
        manifest = loaded.manifest
        assert (manifest.cursor, manifest.metric) == (12, 0.5)
        assert manifest.extras == {"a": [1, None]}
        train(comm, other, 4)
        assert other.weights_hash() == manager.weights_hash()
        assert other.loss_scale == manager.loss_scale

    run_threads(1, body)


def test_random_numbers_of_a_step_are_those_it_would_have_had(tmp_path: Path) -> None:
    def build(comm: Communicator, seed: int) -> tuple[ParameterManager, nn.Cell]:
        net = make_net(seed)
        optimizer = optim.SGD(net.trainable_params(), 0.1)
        return ParameterManager(net, optimizer, comm=comm), net

    def train(manager: ParameterManager, net: nn.Cell) -> None:
        def loss(x: Tensor, y: Tensor) -> Tensor:
            noise = next_stream().uniform(0, 12).reshape(4, 3)
            return ops.cross_entropy(net(x) * Tensor(noise.astype(np.float32)), y)

        manager.step(loss, np.ones((4, 7), np.float32), np.zeros(4, np.int64))

    def body(comm: Communicator) -> None:
        manager, net = build(comm, 1)
        train(manager, net)
        manager.save(tmp_path / "saved")
        train(manager, net)
        other, its_net = build(comm, 2)
        other.load(tmp_path / "saved")
        train(other, its_net)
        assert other.weights_hash() == manager.weights_hash()

    run_threads(1, body)


def test_keep_is_a_number_from_one() -> None:
    for keep in (0, -1, True, 1.5):
        with pytest.raises(CheckpointError, match="keep"):
            pp.Checkpointer("nowhere", keep=keep)  # type: ignore[arg-type]  # on purpose
