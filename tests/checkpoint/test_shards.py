"""Layout `shards`: the same state as in `one`, in files that PyTorch's DCP reads."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from saved_states import edit, make_manager, refused, take_steps, tensors_in

from parallel_params import optim
from parallel_params.checkpoint.boxes import boxes_of
from parallel_params.checkpoint.header import decode_header
from parallel_params.checkpoint.manifest import Layout
from parallel_params.checkpoint.reading import Reader
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointNotSaved,
)
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.interval import Interval, is_cover
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.tensor import Tensor

Record: TypeAlias = dict[str, Any]  # JSON


@given(st.data())
def test_boxes_are_the_interval_in_order_and_few(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
    whole = np.arange(math.prod(shape)).reshape(shape)
    start = data.draw(st.integers(0, whole.size))
    interval = Interval(start, data.draw(st.integers(start, whole.size)))
    boxes = list(boxes_of(shape, interval))
    assert len(boxes) <= max(1, 2 * len(shape) - 1)
    for box in boxes:
        place = tuple(
            slice(offset, offset + size)
            for offset, size in zip(box.offsets, box.shape, strict=True)
        )
        expected = np.arange(box.interval.start, box.interval.stop)
        np.testing.assert_array_equal(whole[place].reshape(-1), expected)
    assert is_cover([box.interval for box in boxes], interval)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one rank saved in layout `one`."""
    path = tmp_path_factory.mktemp("shards") / "one"

    def body(comm: Communicator) -> None:
        manager, net = make_manager(comm, 0)
        take_steps(manager, net)
        manager.save(path)

    run_threads(1, body)
    return path


def copy(
    source: Path, target: Path, layout: Layout, num_ranks: int, level: int = 2
) -> Path:
    """Load a checkpoint in a world and save it there."""

    def body(comm: Communicator) -> None:
        manager, _ = make_manager(comm, level, seed=5, per_node=2)
        assert manager.load(source).notes == ()
        manager.save(target, layout=layout)

    run_threads(num_ranks, body)
    return target


@pytest.mark.parametrize(
    ("num_ranks", "level"), [(1, 0), (2, 1), (3, 3), (4, 2), (8, 3)]
)
def test_what_is_saved_as_shards_is_the_same_state_and_goes_back_to_one(
    one: Path, tmp_path: Path, num_ranks: int, level: int
) -> None:
    shards = copy(one, tmp_path / "shards", "shards", num_ranks, level)
    assert Reader.open(shards).manifest.layout == "shards"
    assert tensors_in(shards) == tensors_in(one)
    again = copy(shards, tmp_path / "again", "shards", 4 if num_ranks < 3 else 2)
    back = copy(again, tmp_path / "back", "one", 3)
    for name in ("model.safetensors", "optim.safetensors"):
        assert (back / name).read_bytes() == (one / name).read_bytes()


def test_every_file_is_of_one_rank_and_says_where_its_boxes_lie(
    one: Path, tmp_path: Path
) -> None:
    shards = copy(one, tmp_path / "shards", "shards", 2)
    whole = tensors_in(shards)
    names = [path.name for path in sorted(shards.glob("*.safetensors"))]
    assert names == [
        f"shard-0000{rank}-model-00001-of-00001.safetensors" for rank in (1, 2)
    ]
    for path in shards.glob("*.safetensors"):
        content = path.read_bytes()
        head = 8 + int.from_bytes(content[:8], "little")
        entries, metadata = decode_header(content[:head], len(content), path.name)
        offsets = json.loads(metadata["DCP_SHARDING_INFO"])
        assert {entry.key for entry in entries} == offsets.keys()
        for entry in entries:
            if entry.key == "first":
                data = content[head + entry.start :][: entry.num_bytes]
                array = np.frombuffer(whole["/first"][7:], np.float32).reshape(6, 7)
                low = offsets["first"]["saved_offsets"]
                box = array[
                    low[0] : low[0] + entry.shape[0], low[1] : low[1] + entry.shape[1]
                ]
                assert data == box.tobytes()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_torch_reads_shards_with_its_own_reader(one: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    shards = copy(one, tmp_path / "shards", "shards", 3)
    source = dcp.HuggingFaceStorageReader(str(shards))
    stored = {t.file_key: t for t in Reader.open(one).manifest.tensors}
    known = source.read_metadata().state_dict_metadata
    assert {name: tuple(m.size) for name, m in known.items()} == {
        name: each.shape for name, each in stored.items()
    }
    found = {
        name: torch.zeros(each.shape, dtype=getattr(torch, each.dtype))
        for name, each in stored.items()
    }
    dcp.load(found, storage_reader=source, no_dist=True)
    with Reader.open(one) as reader:
        for name, each in stored.items():
            data = found[name].reshape(-1).view(torch.uint8).numpy().tobytes()
            assert data == reader.array(each).tobytes(), name


def test_torch_makes_one_file_of_shards(one: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    made = pytest.importorskip(
        "torch.distributed.checkpoint._consolidate_hf_safetensors"
    )
    load_file = pytest.importorskip("safetensors.torch").load_file
    shards = copy(one, tmp_path / "shards", "shards", 4)
    (tmp_path / "out").mkdir()
    # PyTorch 2.13 writes zero for a tensor without dims, whoever saved it.
    weights = Reader.open(one).manifest.weights
    names = [each.file_key for each in weights if each.shape and each.numel]
    made.consolidate_safetensors_files(
        input_dir=str(shards),
        output_dir=str(tmp_path / "out"),
        fqn_to_index_mapping=dict.fromkeys(names, 1),
    )
    (file,) = (tmp_path / "out").glob("*.safetensors")
    found, expected = load_file(file), load_file(one / "model.safetensors")
    assert sorted(found) == sorted(names)
    assert all(bool((found[name] == expected[name]).all()) for name in names)


def test_slices_of_a_layerwise_parameter_are_apart_in_shards(tmp_path: Path) -> None:
    def build(comm: Communicator) -> tuple[Parameter, ParameterManager]:
        own = Parameter(
            Tensor(np.full((3, 2), comm.rank + 1.0, np.float32)),
            name="own",
            layerwise_parallel=True,
        )
        manager = ParameterManager(
            [own],
            optim.Momentum([own], 0.5, 0.9),
            comm=comm,
            mesh=Mesh({"data": 2, "model": 2}),
            policy=Policy(level=Level(1), shard_threshold_bytes=0, alignment=1),
        )
        return own, manager

    def save(comm: Communicator) -> list[float]:
        own, manager = build(comm)
        manager.update({"own": np.full((3, 2), comm.rank)})
        manager.save(tmp_path / "one")
        manager.save(tmp_path / "shards", layout="shards")
        values: list[float] = own.asnumpy().reshape(-1).tolist()
        return values

    def load(comm: Communicator) -> list[float]:
        own, manager = build(comm)
        manager.load(tmp_path / "shards")
        values: list[float] = own.asnumpy().reshape(-1).tolist()
        return values

    saved = run_threads(4, save)
    assert run_threads(4, load) == saved
    assert saved[0] == saved[2] != saved[1] == saved[3]
    found = tensors_in(tmp_path / "shards")
    assert found == tensors_in(tmp_path / "one")
    assert {"/own@slice0", "/own@slice1", "moments/moments.own@slice0"} <= found.keys()


def test_damage_in_shards_names_file_and_tensor(one: Path, tmp_path: Path) -> None:
    shards = copy(one, tmp_path / "shards", "shards", 2)
    manifest = Reader.open(shards).manifest
    stored = next(t for t in manifest.tensors if t.file_key == "middle")
    block = stored.blocks[-1]
    path = shards / manifest.files[block.file].name
    data = bytearray(path.read_bytes())
    data[block.offset] ^= 1
    path.write_bytes(data)

    def body(comm: Communicator) -> None:
        manager, _ = make_manager(comm, 1, seed=5)
        with pytest.raises(CheckpointDamaged, match=f"{path.name}: tensor 'middle'"):
            manager.load(shards)

    run_threads(3, body)


def test_more_files_than_a_process_may_open_are_read(one: Path, tmp_path: Path) -> None:
    shards = copy(one, tmp_path / "shards", "shards", 8)
    assert len(Reader.open(shards).manifest.files) == 8
    reader = Reader.open(shards)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parallel_params.checkpoint.reading.MAX_OPEN_FILES", 2)
        with reader:
            for stored in reader.manifest.tensors:
                reader.check(stored, Interval(0, stored.numel))
                assert len(reader._opened) <= 2


def test_what_cannot_be_saved_as_asked_is_refused_on_all_ranks(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        names = ("moments.w", "w")
        pair = [Parameter(Tensor(np.ones(4, np.float32)), name=n) for n in names]
        manager = ParameterManager(
            pair,
            optim.Momentum(pair, 0.1, 0.9),
            comm=comm,
            policy=Policy(level=Level(2), shard_threshold_bytes=0),
        )
        # In `one` weights and states have files of their own.
        manager.save(tmp_path / "one")
        with pytest.raises(CheckpointNotSaved, match=r"'moments\.w' in one file"):
            manager.save(tmp_path / "two", layout="shards")
        with pytest.raises(CheckpointNotSaved, match="layout: expected one of"):
            manager.save(tmp_path / "two", layout="many")  # type: ignore[arg-type]  # on purpose

    run_threads(2, body)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


# ---- hostile folders: what `test_refusals.py` has for layout `one`, in this one


@pytest.fixture(scope="module")
def four(one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state as the shards of four ranks."""
    return copy(one, tmp_path_factory.mktemp("hostile") / "four", "shards", 4)


def _files(record: Record, number: int = 0) -> Record:
    file: Record = record["files"][number]
    return file


def _cut_tensor(record: Record) -> Any:
    """Return the blocks of a tensor that several files have parts of."""
    tensors = record["tensors"]
    many = [t for t in tensors if len({b["file"] for b in t["blocks"]}) > 1]
    return many[0]["blocks"]


def _grow_head(record: Record, num_bytes: int) -> None:
    """Let everything in the first file lie behind a head of a terabyte or so."""
    file = _files(record)
    for key in ("header_bytes", "num_bytes"):
        file[key] += num_bytes
    for tensor in record["tensors"]:
        for block in tensor["blocks"]:
            block["offset"] += num_bytes * (block["file"] == 0)


HOSTILE: dict[str, Callable[[Record], object]] = {
    "../shard": lambda r: _files(r).update(name="../shard-00001.safetensors"),
    "/etc": lambda r: _files(r).update(name="/etc/shard-00001.safetensors"),
    "sub/shard": lambda r: _files(r, 1).update(name="sub/shard-00001.safetensors"),
    "is there twice": lambda r: _files(r).update(name=_files(r, 1)["name"]),
    "No such file": lambda r: _files(r).update(name="shard-00099-model.safetensors"),
    "head is longer": lambda r: _files(r).update(header_bytes=2**40),
    "a huge head": lambda r: _grow_head(r, 2**40),
    "was saved with": lambda r: _files(r, 1).update(num_bytes=2**50),
    "file 99": lambda r: _cut_tensor(r)[0].update(file=99),
    "starts at byte": lambda r: _cut_tensor(r)[1].update(
        {key: _cut_tensor(r)[0][key] for key in ("file", "offset")}
    ),
    "reaches byte": lambda r: _cut_tensor(r)[0].update(offset=2**61),
    "the head reaches": lambda r: _cut_tensor(r)[0].update(offset=0),
    "expected a number from 0": lambda r: _cut_tensor(r)[0].update(offset=-1),
    "or too large": lambda r: _cut_tensor(r)[-1].update(stop=2**50),
    "elements of": lambda r: _cut_tensor(r).pop(),
    "the tensor": lambda r: r["tensors"].append(r["tensors"][0]),
}


@pytest.mark.parametrize("words", HOSTILE)
def test_a_hostile_manifest_of_shards_is_refused(
    four: Path, tmp_path: Path, words: str
) -> None:
    spoiled = Path(shutil.copytree(four, tmp_path / "spoiled"))
    edit(spoiled, HOSTILE[words])
    is_shorter = words in ("a huge head", "was saved with")
    kind = CheckpointDamaged if is_shorter else CheckpointError
    refused(spoiled, kind, "was saved with" if is_shorter else words)


def test_a_shard_that_is_a_link_a_pipe_or_gone_is_refused(
    four: Path, tmp_path: Path
) -> None:
    spoiled = Path(shutil.copytree(four, tmp_path / "spoiled"))
    shard = max(spoiled.glob("*.safetensors"))
    target = tmp_path / "elsewhere"
    shard.rename(target)
    refused(spoiled, CheckpointError, shard.name, "No such file")
    shard.symlink_to(target)
    refused(spoiled, CheckpointError, shard.name, "a link")
    shard.unlink()
    os.mkfifo(shard)
    refused(spoiled, CheckpointError, shard.name, "no ordinary file")
    shard.unlink()
    target.rename(shard)
    os.truncate(shard, shard.stat().st_size - 1)
    refused(spoiled, CheckpointDamaged, shard.name, "bytes")


@pytest.mark.parametrize(
    "text",
    [
        b'{"w": NaN}',
        b'{"w": 1, "w": 2}',
        b'{"w": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}',
        b"\xff" * 64,
    ],
)
def test_a_head_that_is_not_the_one_saved_is_refused_unread(
    four: Path, tmp_path: Path, text: bytes
) -> None:
    """Nothing is taken from a head: its hash is in the manifest."""
    spoiled = Path(shutil.copytree(four, tmp_path / "spoiled"))
    shard = min(spoiled.glob("*.safetensors"))
    with shard.open("r+b") as file:
        file.seek(8)
        file.write(text)
    refused(spoiled, CheckpointDamaged, f"the head of {spoiled / shard.name}")
    with shard.open("r+b") as file:
        file.write((2**63).to_bytes(8, "little"))
    refused(spoiled, CheckpointDamaged, f"the head of {spoiled / shard.name}")
