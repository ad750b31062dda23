"""Layout `shards`: what a rank writes is one box, so it is one file that DCP reads."""

import errno
import math
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranked import assert_on_all_ranks
from saved_states import tensors_in
from strategies import plans

from parallel_params import optim
from parallel_params.checkpoint import edges
from parallel_params.checkpoint.boxes import boxes_of, snap
from parallel_params.checkpoint.checkpointer import Checkpointer
from parallel_params.checkpoint.edges import Edges, shares_of
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.live import parts_to_save
from parallel_params.checkpoint.manifest import Key
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.tensors import saved_by, tensors_of
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointNotSaved
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.interval import Interval, is_cover
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.dtype import bfloat16, float32, float64
from parallel_params.tensor.tensor import Tensor


@given(st.data())
def test_cuts_go_to_where_every_part_is_one_box(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), max_size=4)))
    numel = math.prod(shape)
    inside = st.sets(st.integers(1, max(1, numel - 1)), max_size=8)
    cuts = sorted(data.draw(inside)) if numel > 1 else []
    places = snap(shape, cuts)
    row = math.prod(shape[1:])
    assert all(c // row * row <= places[c] <= -(-c // row) * row for c in cuts)
    behind = [0, *(places[cut] for cut in cuts), numel]
    assert behind == sorted(behind)
    for start, stop in pairwise(behind):
        assert len(list(boxes_of(shape, Interval(start, stop)))) == (start < stop)


def written_by(plan: Plan, rank: int) -> Mapping[Key, Interval]:
    """Return which elements a rank writes of what it owns a part of."""
    shares = dict(shares_of(plan, rank))
    return {
        key: shares[key].written if key in shares else interval
        for key, interval in saved_by(plan, rank)
    }


@given(plans())
def test_every_element_is_written_once_in_one_box_of_a_rank(plan: Plan) -> None:
    pieces: dict[Key, list[Interval]] = {each.key: [] for each in tensors_of(plan)}
    shapes = {each.key: each.shape for each in tensors_of(plan)}
    for rank in range(plan.mesh.size):
        for key, interval in written_by(plan, rank).items():
            assert len(list(boxes_of(shapes[key], interval))) <= 1
            pieces[key].append(interval)
    for key, shape in shapes.items():
        assert is_cover(pieces[key], Interval(0, math.prod(shape))), key


@given(plans())
def test_what_one_rank_takes_its_owner_gives(plan: Plan) -> None:
    given, taken = set(), set()
    for rank in range(plan.mesh.size):
        owned = dict(saved_by(plan, rank))
        for key, share in shares_of(plan, rank):
            for other, interval in share.given:
                assert interval.intersect(owned[key]) == interval
                given.add((rank, other, key, interval))
            for other, interval in share.taken:
                assert interval.intersect(share.written) == interval
                taken.add((other, rank, key, interval))
    assert given == taken


SHAPES = {
    "matrix": (5, 7),
    "stack": (2, 3, 5),
    "long": (2, 23),
    "row": (1, 11),
    "vector": (13,),
    "scalar": (),
    "nothing": (0,),
}
DTYPES = (float32, bfloat16, float64)


def manage(comm: Communicator, level: int) -> ParameterManager:
    """Return a manager of parameters of all kinds of shapes, after one step."""
    rng = np.random.default_rng(3)
    parameters = [
        Parameter(Tensor(np.asarray(rng.standard_normal(shape)), dtype), name=name)
        for name, shape, dtype in (
            (f"{name}.{dtype}", shape, dtype)
            for name, shape in SHAPES.items()
            for dtype in DTYPES
        )
    ]
    policy = Policy(
        level=Level(level), bucket_bytes=300, shard_threshold_bytes=0, alignment=1
    )
    optimizer = optim.Momentum(parameters, 0.1, 0.9)
    manager = ParameterManager(parameters, optimizer, comm=comm, policy=policy)
    manager.update({p.name: np.ones(p.shape) for p in parameters})
    return manager


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one rank saved in layout `one`."""
    path = tmp_path_factory.mktemp("edges") / "one"
    run_threads(1, lambda comm: manage(comm, 0).save(path))
    return path


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_every_rank_has_one_file_and_torch_reads_all_of_them(
    one: Path, tmp_path: Path, num_ranks: int, level: int
) -> None:
    def body(comm: Communicator) -> None:
        manage(comm, level).save(tmp_path / "shards", layout="shards")

    run_threads(num_ranks, body)
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [
        "manifest.json",
        *(
            f"shard-0000{k + 1}-model-00001-of-00001.safetensors"
            for k in range(num_ranks)
        ),
    ]
    assert tensors_in(tmp_path / "shards") == tensors_in(one)
    torch = pytest.importorskip("torch")
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    source = dcp.HuggingFaceStorageReader(str(tmp_path / "shards"))
    with Reader.open(one) as reader:
        expected = {t.file_key: (t, reader.array(t)) for t in reader.manifest.tensors}
    known = source.read_metadata().state_dict_metadata
    assert {name: tuple(each.size) for name, each in known.items()} == {
        name: stored.shape for name, (stored, _) in expected.items()
    }
    found = {
        name: torch.zeros(stored.shape, dtype=getattr(torch, stored.dtype))
        for name, (stored, _) in expected.items()
    }
    dcp.load(found, storage_reader=source, no_dist=True)
    for name, (_, values) in expected.items():
        data = found[name].reshape(-1).view(torch.uint8).numpy().tobytes()
        assert data == values.tobytes(), name


def test_what_moves_in_many_rounds_arrives_as_in_one(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(comm: Communicator) -> int:
        manager = manage(comm, 2)
        manager.save(tmp_path / str(edges.ROUND_BYTES), layout="shards")
        plan, arenas = manager.plan, manager._open.arenas
        parts = [*parts_to_save(plan, comm.rank, arenas)]
        return Edges(plan, comm.rank, parts, tensors_of(plan)).num_rounds

    assert set(run_threads(3, body)) == {1}
    monkeypatch.setattr(edges, "ROUND_BYTES", 8)
    assert max(run_threads(3, body)) > 3
    assert tensors_in(tmp_path / "8") == tensors_in(one)


class FullDisk(Files):
    """Has no room for writes from the n-th on."""

    def __init__(self, number: int) -> None:
        self._left = number

    def write(self, descriptor: int, data: memoryview, offset: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, data, offset)


@pytest.mark.parametrize("is_asynchronous", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2, 9])
def test_a_rank_whose_disk_is_full_keeps_nobody_waiting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    is_asynchronous: bool,
) -> None:
    """The head, elements of others in several rounds, its own: each may be the last."""
    monkeypatch.setattr(edges, "ROUND_BYTES", 8)

    def body(comm: Communicator) -> None:
        manager = manage(comm, 2)
        keeper = Checkpointer(
            tmp_path,
            layout="shards",
            asynchronous=is_asynchronous,
            files=FullDisk(number) if comm.rank == 1 else Files(),
        )
        text = "no error"
        try:
            keeper.save(manager)
            keeper.finish(comm)
        except CheckpointNotSaved as error:
            text = str(error)
        assert_on_all_ranks(comm, "rank 1 of 3" in text and "No space" in text, text)

    run_threads(3, body)
    assert list(tmp_path.iterdir()) == []


def test_torch_makes_one_file_though_a_rank_has_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    made = pytest.importorskip(
        "torch.distributed.checkpoint._consolidate_hf_safetensors"
    )
    load_file = pytest.importorskip("safetensors.numpy").load_file

    def body(comm: Communicator) -> None:
        # Cuts inside of the one row: two of four ranks have an element.
        own = Parameter(Tensor(np.ones((1, 2), np.float32)), name="w")
        policy = Policy(level=Level(2), shard_threshold_bytes=0, alignment=1)
        mover = optim.SGD([own], 0.1)
        manager = ParameterManager([own], mover, comm=comm, policy=policy)
        manager.save(tmp_path / "shards", layout="shards")

    run_threads(4, body)
    assert len(list((tmp_path / "shards").glob("shard-*"))) == 2
    (tmp_path / "out").mkdir()
    made.consolidate_safetensors_files(
        input_dir=str(tmp_path / "shards"),
        output_dir=str(tmp_path / "out"),
        fqn_to_index_mapping={"w": 1},
    )
    (file,) = (tmp_path / "out").glob("*.safetensors")
    assert load_file(file)["w"].tolist() == [[1.0, 1.0]]
