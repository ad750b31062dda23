"""Slices of one tensor are cut anew for another mesh, their optimizer state as well."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks

from parallel_params import nn, ops, optim
from parallel_params.checkpoint.exporting import Naming, export
from parallel_params.checkpoint.importing import import_file
from parallel_params.checkpoint.manifest import Key, Stored
from parallel_params.checkpoint.matching import match
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.reads import reads_of
from parallel_params.checkpoint.slices import slices_of
from parallel_params.checkpoint.sources import Recut, joined, read_whole
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointMismatch
from parallel_params.manager import ParameterManager
from parallel_params.nn.parallel import ColumnParallelDense, RowParallelDense, open_axis
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.interval import Interval
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def with_adamw(
    kind: Callable[..., Optimizer], params: Sequence[Parameter]
) -> list[Optimizer]:
    """One for matrices, and one for the rest."""
    others = [p for p in params if p.ndim != 2]
    return [
        kind([p for p in params if p.ndim == 2], learning_rate=0.1),
        optim.AdamWeightDecay(others, learning_rate=0.1),
    ]


Made: TypeAlias = Optimizer | Sequence[Optimizer]
OPTIMIZERS: dict[str, Callable[[Sequence[Parameter]], Made]] = {
    "adamw": lambda params: optim.AdamWeightDecay(params, learning_rate=0.1),
    "adafactor": lambda params: optim.AdaFactor(
        params, learning_rate=0.1, relative_step=False
    ),
    "muon": lambda params: with_adamw(optim.Muon, params),
    "soap": lambda params: with_adamw(optim.SOAP, params),
}
WIDTH = 12  # which 1, 2, 3, 4 and 6 ranks can cut


class Net(nn.Cell):
    """Cut by its outputs, then by its inputs: dims 0 and 1."""

    def __init__(self, comm: Communicator, mesh: Mesh, dtype: str = "float32") -> None:
        super().__init__()
        axis, kind = open_axis(comm, mesh), dtype_named(dtype)
        self.up = ColumnParallelDense(5, WIDTH, dtype=kind, axis=axis)
        self.down = RowParallelDense(WIDTH, 3, dtype=kind, axis=axis)

    def construct(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(ops.relu(self.up(x)))
        return y


def make(
    comm: Communicator,
    num_slices: int,
    *,
    level: int = 1,
    seed: int = 0,
    optimizer: str = "adamw",
    dtype: str = "float32",
) -> tuple[ParameterManager, Net]:
    set_seed(seed)
    mesh = Mesh({"data": comm.size // num_slices, "model": num_slices})
    net = Net(comm, mesh, dtype)
    manager = ParameterManager(
        net,
        OPTIMIZERS[optimizer](net.trainable_params()),
        comm=comm,
        mesh=mesh,
        policy=Policy(level=Level(level), shard_threshold_bytes=0, alignment=1),
    )
    return manager, net


def step(manager: ParameterManager, net: Net, number: int = 0) -> None:
    """One step on 12 samples, which the data axis shares."""
    mesh, rank = manager.plan.mesh, manager.comm.rank
    x = np.sin(np.arange(60.0) + number).reshape(12, 5).astype(np.float32)
    share = np.split(x, mesh.num_shares)[mesh.share_index(rank)]
    kind = net.up.weight.dtype
    inputs = Tensor(share).astype(kind)
    manager.step(lambda x: ops.mean(net(x).astype(dtype_named("float32")) ** 2), inputs)


def whole(path: Path) -> Mapping[str, bytes]:
    """Return every tensor of a checkpoint, its slices joined."""
    reader, found = Reader.open(path), {}
    with reader:
        for stored in reader.manifest.tensors:
            if stored.key.slice_index:
                continue
            slices = slices_of(reader.manifest, stored)
            array = read_whole(reader, joined(slices, stored.slice_dim or 0))
            found[str(stored.key)] = f"{array.shape}".encode() + array.tobytes()
    return found


CASES = [  # ranks and slices that save, ranks and slices that load
    ((2, 2), (3, 3)),
    ((4, 2), (4, 4)),
    ((4, 4), (2, 1)),
    ((1, 1), (6, 3)),
    ((6, 6), (4, 2)),
    ((3, 1), (4, 2)),
]


@pytest.mark.parametrize(("saved", "loads"), CASES)
def test_slices_at_another_mesh_are_those_of_the_same_tensors(
    tmp_path: Path, saved: tuple[int, int], loads: tuple[int, int]
) -> None:
    def save(comm: Communicator) -> None:
        manager, net = make(comm, saved[1], level=saved[0] % 4)
        step(manager, net)
        manager.save(tmp_path / "a")

    def load(comm: Communicator) -> tuple[str, ...]:
        manager, _ = make(comm, loads[1], level=loads[0] % 4, seed=1)
        notes = manager.load(tmp_path / "a").notes
        manager.save(tmp_path / "b")
        return notes

    run_threads(saved[0], save)
    notes = run_threads(loads[0], load)[0]
    told = [note for note in notes if "cut anew along dim" in note]
    # Two weights and a bias, each in one note with its two states.
    assert len(told) == (3 if saved[1] != loads[1] else 0), notes
    assert whole(tmp_path / "b") == whole(tmp_path / "a")


def test_there_and_back_a_run_goes_on_with_its_bits(tmp_path: Path) -> None:
    def first(comm: Communicator) -> str:
        manager, net = make(comm, 2)
        step(manager, net)
        manager.save(tmp_path / "a")
        step(manager, net, 1)
        return manager.weights_hash()

    def between(comm: Communicator) -> None:
        manager, _ = make(comm, 3, level=3, seed=1)
        manager.load(tmp_path / "a")
        manager.save(tmp_path / "b")

    def last(comm: Communicator) -> str:
        manager, net = make(comm, 2, seed=2)
        manager.load(tmp_path / "b")
        step(manager, net, 1)
        return manager.weights_hash()

    expected = run_threads(2, first)
    run_threads(6, between)
    assert run_threads(2, last) == expected


def test_a_first_net_is_the_same_for_all_meshes_so_its_parts_are_right() -> None:
    """Against what each rank draws for itself: no file, no code of `sources`."""

    def drawn(comm: Communicator) -> list[Array]:
        net = make(comm, comm.size, seed=3)[1]
        return [p.asnumpy().copy() for p in net.trainable_params()]

    one, four = run_threads(1, drawn)[0], run_threads(4, drawn)
    for index, dim in ((0, 0), (1, 0), (2, 1)):
        parts = [rank[index] for rank in four]
        assert np.array_equal(np.concatenate(parts, dim), one[index])


def test_what_is_loaded_is_what_every_rank_would_have_drawn(tmp_path: Path) -> None:
    """The slices of a loaded net are those of a net that was made for this mesh."""
    run_threads(2, lambda comm: make(comm, 2, seed=3)[0].save(tmp_path / "a"))

    def load(comm: Communicator) -> bool:
        expected = make(comm, comm.size, seed=3)[1]
        manager, net = make(comm, comm.size, seed=4)
        manager.load(tmp_path / "a")
        return all(
            np.array_equal(ours.asnumpy(), theirs.asnumpy())
            for ours, theirs in zip(
                net.trainable_params(), expected.trainable_params(), strict=True
            )
        )

    assert run_threads(3, load) == [True] * 3


def test_a_16_bit_parameter_takes_its_exact_weight_along(tmp_path: Path) -> None:
    def save(comm: Communicator) -> None:
        manager, net = make(comm, 2, dtype="bfloat16")
        step(manager, net)
        manager.save(tmp_path / "a")

    def load(comm: Communicator) -> None:
        manager, _ = make(comm, 4, seed=1, dtype="bfloat16")
        manager.load(tmp_path / "a")
        manager.save(tmp_path / "b")

    run_threads(2, save)
    run_threads(4, load)
    found = whole(tmp_path / "b")
    assert "master_weight of 'down.weight'" in found
    assert found == whole(tmp_path / "a")


def save_with(optimizer: str, num_slices: int, path: Path) -> None:
    def save(comm: Communicator) -> None:
        manager, net = make(comm, num_slices, optimizer=optimizer)
        step(manager, net)
        step(manager, net, 1)
        manager.save(path)

    run_threads(num_slices, save)


def load_with(
    optimizer: str, num_slices: int, path: Path, **wishes: object
) -> tuple[str, ...]:
    """Load what `save_with` saved, and save it beside; return the notes."""

    def load(comm: Communicator) -> tuple[str, ...]:
        manager, _ = make(comm, num_slices, optimizer=optimizer, seed=1)
        notes = manager.load(path, **wishes).notes  # type: ignore[arg-type]  # any of them
        manager.save(target)
        return notes

    target = path.with_name(f"{path.name}-{num_slices}")
    shutil.rmtree(target, ignore_errors=True)
    return run_threads(num_slices, load)[0]


def slices_in(path: Path, slot: str, name: str) -> list[Array]:
    with Reader.open(path) as reader:
        first = reader.manifest.find(Key(name, slot))
        assert first is not None
        return [reader.array(each) for each in slices_of(reader.manifest, first)]


@pytest.mark.parametrize(("num_saved", "num_here"), [(4, 2), (4, 1), (2, 1), (6, 3)])
def test_averages_over_slices_are_averaged_where_slices_are_joined(
    tmp_path: Path, num_saved: int, num_here: int
) -> None:
    """Adafactor's, along the cut dim and along the other one."""
    save_with("adafactor", num_saved, tmp_path / "a")
    load_with("adafactor", num_here, tmp_path / "a")
    after = tmp_path / f"a-{num_here}"
    for slot, cut, other in (
        ("exp_avg_sq_row", "up.weight", "down.weight"),
        ("exp_avg_sq_col", "down.weight", "up.weight"),
    ):
        saved, found = (slices_in(p, slot, cut) for p in (tmp_path / "a", after))
        assert np.array_equal(np.concatenate(saved), np.concatenate(found))
        saved, found = (slices_in(p, slot, other) for p in (tmp_path / "a", after))
        joined_slices = np.split(np.array(saved, np.float64), num_here)
        for group, own in zip(joined_slices, found, strict=True):
            assert np.array_equal(group.mean(0).astype(np.float32), own)


@pytest.mark.parametrize(("num_saved", "num_here"), [(2, 4), (1, 2), (2, 3)])
def test_averages_over_finer_slices_need_a_word(
    tmp_path: Path, num_saved: int, num_here: int
) -> None:
    save_with("adafactor", num_saved, tmp_path / "a")
    with pytest.raises(CheckpointMismatch, match=r"an average over each.*'mean'"):
        load_with("adafactor", num_here, tmp_path / "a")
    notes = load_with("adafactor", num_here, tmp_path / "a", strict=False)
    assert any("stays as it is: it has exp_avg_sq" in note for note in notes)
    load_with("adafactor", num_here, tmp_path / "a", weights_only=True)
    load_with("adafactor", num_here, tmp_path / "a", layerwise="mean")
    saved = slices_in(tmp_path / "a", "exp_avg_sq_col", "up.weight")
    own = np.mean(np.array(saved, np.float64), 0).astype(np.float32)
    for found in slices_in(tmp_path / f"a-{num_here}", "exp_avg_sq_col", "up.weight"):
        assert np.array_equal(found, own)


@pytest.mark.parametrize("num_here", [1, 4])
def test_averages_of_the_gradient_are_cut_whatever_the_rule(
    tmp_path: Path, num_here: int
) -> None:
    """Muon makes its matrix orthogonal later, on the way to the weights."""
    save_with("muon", 2, tmp_path / "a")
    load_with("muon", num_here, tmp_path / "a")
    assert whole(tmp_path / "a") == whole(tmp_path / f"a-{num_here}")


def test_what_whole_slices_went_into_is_refused_with_what_can_be_done(
    tmp_path: Path,
) -> None:
    save_with("soap", 2, tmp_path / "a")
    for num_here, wishes in ((4, {}), (1, {}), (1, {"layerwise": "mean"})):
        with pytest.raises(CheckpointMismatch, match=r"cannot be cut.*weights_only"):
            load_with("soap", num_here, tmp_path / "a", **wishes)
    load_with("soap", 4, tmp_path / "a", weights_only=True)
    notes = load_with("soap", 1, tmp_path / "a", strict=False)
    assert any("'up.weight' stays as it is: it has basis" in note for note in notes)


def test_an_export_joins_slices_and_an_import_is_cut_again(tmp_path: Path) -> None:
    def save(comm: Communicator) -> None:
        manager, net = make(comm, 4)
        step(manager, net)
        manager.save(tmp_path / "a")

    run_threads(4, save)
    for suffix in (".safetensors", ".npz", ".ckpt"):
        file = tmp_path / f"w{suffix}"
        export(Reader.open(tmp_path / "a"), file, Naming(), has_state=True)
        done = import_file(file, tmp_path / f"in{suffix}")
        assert "up.weight" in done.taken
        found, saved = whole(tmp_path / f"in{suffix}"), whole(tmp_path / "a")
        assert found["'up.weight'"] == saved["'up.weight'"]
        assert found["'down.weight'"] == saved["'down.weight'"]

        def load(comm: Communicator, path: Path = tmp_path / f"in{suffix}") -> None:
            manager, _ = make(comm, 3, seed=1)
            manager.load(path, weights_only=True, strict=False)
            manager.save(path.with_name(f"{path.name}-again"))

        run_threads(3, load)
        again = whole(tmp_path / f"in{suffix}-again")
        assert again["'down.weight'"] == saved["'down.weight'"]


def test_only_the_wanted_part_is_read(tmp_path: Path) -> None:
    """All ranks of a mesh of slices read every byte once, whatever the slices were."""

    def read(comm: Communicator, num_slices: int) -> int:
        manager, _ = make(comm, num_slices, level=3, seed=1)
        return manager.load(tmp_path / "a").bytes_read

    run_threads(2, lambda comm: make(comm, 2)[0].save(tmp_path / "a"))
    once = run_threads(1, lambda comm: read(comm, 1))[0]
    for num_slices in (2, 3, 4):
        each = run_threads(num_slices, partial(read, num_slices=num_slices))
        assert sum(each) == once, each


def test_a_forecast_of_reads_is_what_a_load_reads(tmp_path: Path) -> None:
    """Slices that are cut anew included; who had all of a slice has none to fetch."""
    old = run_threads(2, partial(saved_plan, tmp_path / "a"))[0]
    manifest = Reader.open(tmp_path / "a").manifest

    def body(comm: Communicator) -> bool:
        manager, _ = make(comm, comm.size, level=3, seed=1)
        plan, rank = manager.plan, comm.rank
        found = match(
            manifest,
            plan,
            where="",
            is_strict=True,
            weights_only=False,
            layerwise="fail",
        )
        reads = reads_of(old, plan, rank, found)
        loaded = manager.load(tmp_path / "a").bytes_read
        is_first = rank == 0  # whose part of every cut is within what it had
        return reads.read == loaded and (reads.had > 0 if is_first else True)

    for size in (1, 3, 4):
        assert run_threads(size, body) == [True] * size


def saved_plan(path: Path, comm: Communicator) -> Plan:
    manager, _ = make(comm, comm.size)
    manager.save(path)
    return manager.plan


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_spans_are_those_of_a_joined_array(dim: int) -> None:
    """Against NumPy: every interval of every part of every cut."""
    size = [3, 4, 2]
    size[dim] = 12
    numbers = np.arange(np.prod(size)).reshape(size)
    for num_saved in (1, 2, 3):
        saved = np.split(numbers, num_saved, dim)
        slices = tuple(
            Stored(
                key=Key("w", "", index),
                num_slices=num_saved,
                dtype="int64",
                shape=each.shape,
                blocks=(),
                slice_dim=dim,
            )
            for index, each in enumerate(saved)
        )
        for num_wanted in (1, 4, 6):
            for index, wanted in enumerate(np.split(numbers, num_wanted, dim)):
                start = index * wanted.shape[dim]
                source = Recut(slices=slices, dim=dim, start=start, shape=wanted.shape)
                for first in range(0, wanted.size, 5):
                    interval = Interval(first, min(first + 7, wanted.size))
                    assert np.array_equal(
                        taken(source, interval, saved),
                        wanted.reshape(-1)[interval.as_slice()],
                    )


def taken(source: Recut, interval: Interval, saved: list[Array]) -> Array:
    out = np.full(interval.numel, -1)
    for stored, there, here in source.spans(interval):
        values = saved[stored.key.slice_index].reshape(-1)[there.as_slice()]
        out[here.shift(-interval.start).as_slice()] = values
    return out


@pytest.mark.mpi
def test_processes_cut_anew_what_one_rank_saved(
    on_ranks: OnRanks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def body(comm: Communicator) -> None:
        if WIDTH % comm.size:
            return
        own = str(tmp_path_factory.mktemp("recut"))
        folder = Path(comm.all_gather_bytes(own.encode())[0].decode())
        if comm.rank == 0:
            run_threads(1, lambda one: make(one, 1)[0].save(folder / "a"))
        comm.barrier()
        manager, _ = make(comm, comm.size, level=2, seed=1)
        manager.load(folder / "a")
        manager.save(folder / "b")
        ok = whole(folder / "a") == whole(folder / "b")
        assert_on_all_ranks(comm, ok, "other values")

    on_ranks(body)
