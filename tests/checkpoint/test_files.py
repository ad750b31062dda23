"""Files of a checkpoint: which rank writes what, what others read, where they part."""

from pathlib import Path

import numpy as np
import pytest
from saved_states import make_manager, take_steps

from parallel_params import optim
from parallel_params.checkpoint.manifest import BLOCK_BYTES, Key
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.tensors import saved_by, tensors_of
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.interval import Interval, is_cover
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.tensor import Tensor


def test_every_element_is_saved_by_one_rank() -> None:
    def body(comm: Communicator) -> None:
        for optimizer in ("adamw", "adafactor", "muon"):
            manager, _ = make_manager(comm, 2, optimizer=optimizer)
            plan = manager.plan
            pieces: dict[Key, list[Interval]] = {t.key: [] for t in tensors_of(plan)}
            for rank in range(comm.size):
                for key, interval in saved_by(plan, rank):
                    pieces[key].append(interval)
            for each in tensors_of(plan):
                whole = Interval(0, int(np.prod(each.shape, dtype=int)))
                assert is_cover(pieces[each.key], whole), each

    for num_ranks in (1, 3, 4):
        run_threads(num_ranks, body)


def test_files_are_ordinary_safetensors_files(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    def body(comm: Communicator) -> dict[str, np.ndarray[tuple[int, ...], np.dtype]]:
        manager, net = make_manager(comm, 3, per_node=1)
        take_steps(manager, net)
        manager.save(tmp_path / "saved")
        with manager.unsharded():
            return {p.name: p.asnumpy().copy() for p in net.get_parameters()}

    weights = run_threads(2, body)[0]
    found = load_file(tmp_path / "saved" / "model.safetensors")
    assert found.keys() == weights.keys()
    for name, values in weights.items():
        assert found[name].dtype == values.dtype
        assert found[name].tobytes() == values.tobytes(), name


def test_large_tensors_are_hashed_block_by_block_and_large_files_are_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parallel_params.checkpoint import arrange

    numel = BLOCK_BYTES // 4 + 1000
    monkeypatch.setattr(arrange.arrange_in_one, "__kwdefaults__", {"file_bytes": numel})

    def build(comm: Communicator, value: float) -> ParameterManager:
        names = ("a", "b")
        made = [
            Parameter(Tensor(np.full(numel, value, np.float32)), name=name)
            for name in names
        ]
        return ParameterManager(
            made, optim.SGD(made, 0.1), comm=comm, policy=Policy(level=Level(1))
        )

    def body(comm: Communicator) -> None:
        build(comm, 2.0).save(tmp_path / f"saved{comm.size}")
        manager = build(comm, 3.0)
        manager.load(tmp_path / f"saved{comm.size}")
        assert manager._parameters["b"].asnumpy()[[0, -1]].tolist() == [2.0, 2.0]

    run_threads(1, body)
    manifest = Reader.open(tmp_path / "saved1").manifest
    assert [len(stored.blocks) for stored in manifest.weights] == [2, 2]
    assert [file.name for file in manifest.files] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
