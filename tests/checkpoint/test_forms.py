"""Layers that keep matrices packed load what their cut twins saved, and they theirs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from saved_states import tensors_in

from parallel_params import nn, optim
from parallel_params.checkpoint.forms import packings_of
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointMismatch
from parallel_params.manager import ParameterManager
from parallel_params.nn.parallel import ParallelTransformerBlock, open_axis
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy

Make = Callable[[nn.Cell], Optimizer]


def adamw(net: nn.Cell) -> Optimizer:
    return optim.AdamW(net.trainable_params(), 0.1)


class Net(nn.Cell):
    """A block of four heads that share keys of two, whole or cut along `model`."""

    def __init__(
        self, comm: Communicator, mesh: Mesh, *, width: int, activation: str
    ) -> None:
        super().__init__()
        if "model" in mesh.axes:
            self.block: nn.Cell = ParallelTransformerBlock(
                8,
                4,
                width,
                axis=open_axis(comm, mesh),
                num_kv_heads=2,
                activation=activation,
            )
        else:
            self.block = nn.TransformerBlock(
                8, 4, width, num_kv_heads=2, activation=activation
            )


def manage(
    comm: Communicator,
    num_slices: int,
    make: Make = adamw,
    *,
    level: int = 2,
    width: int = 16,
    activation: str = "swiglu",
    frozen: str = "",
) -> ParameterManager:
    """Return the manager of a net; without the axis for 0 slices.

    Collective: all ranks.
    """
    mesh = Mesh(data=comm.size)
    if num_slices:
        mesh = Mesh({"data": comm.size // num_slices, "model": num_slices})
    net = Net(comm, mesh, width=width, activation=activation)
    for parameter in net.get_parameters():
        if frozen and frozen in parameter.name:
            parameter.requires_grad = False
    policy = Policy(
        level=Level(level), shard_threshold_bytes=0, alignment=1, bucket_bytes=500
    )
    return ParameterManager(net, make(net), comm=comm, mesh=mesh, policy=policy)


def saved_at(path: Path, num_ranks: int, num_slices: int, **settings: object) -> Path:
    """Save a state after two steps on gradients of noise."""

    def body(comm: Communicator) -> None:
        manager = manage(comm, num_slices, **settings)  # type: ignore[arg-type]  # as given
        rng = np.random.default_rng(comm.rank)
        for _ in range(2):
            gradients = {
                name: rng.standard_normal(each.shape)
                for name, each in manager._parameters.items()
                if each.requires_grad
            }
            manager.update(gradients)
        manager.save(path)

    run_threads(num_ranks, body)
    return path


def moved(
    source: Path, target: Path, num_ranks: int, num_slices: int, **settings: object
) -> tuple[str, ...]:
    """Load a checkpoint in another world and save it there; return the notes."""

    def body(comm: Communicator) -> tuple[str, ...]:
        manager = manage(comm, num_slices, **settings)  # type: ignore[arg-type]  # as given
        notes = manager.load(source).notes
        manager.save(target, layout="shards")
        return notes

    return run_threads(num_ranks, body)[0]


@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_packed_state_goes_through_a_cut_net_and_back(
    tmp_path: Path, level: int, activation: str
) -> None:
    packed = saved_at(tmp_path / "packed", 2, 0, activation=activation)
    settings = {"level": level, "activation": activation}
    notes = moved(packed, tmp_path / "cut", 4, 2, **settings)
    (told,) = [note for note in notes if "taken from rows of what is packed" in note]
    assert " and " in told  # many, in one note
    moved(tmp_path / "cut", tmp_path / "apart", 3, 1, **settings)
    notes = moved(tmp_path / "apart", tmp_path / "back", 3, 0, **settings)
    (told,) = [note for note in notes if "put together from what is apart" in note]
    assert "'block.attention.in_proj_weight'" in told
    assert tensors_in(tmp_path / "back") == tensors_in(packed)


def test_parts_are_the_rows_of_the_packed_tensor(tmp_path: Path) -> None:
    packed = tensors_in(saved_at(tmp_path / "packed", 1, 0))
    moved(tmp_path / "packed", tmp_path / "cut", 2, 2)
    cut = tensors_in(tmp_path / "cut")

    def values(tensors: object, name: str) -> bytes:
        return tensors[name].removeprefix(b"float32")  # type: ignore[index,no-any-return]  # of bytes

    # 8 rows of the query, 4 of the key, 4 of the value; half of each on a rank.
    for slot in ("", "moment2"):
        base = f"{slot}/{slot}.block".replace("/.", "/") if slot else "/block"
        row = 8 * 4
        whole = values(packed, f"{base}.attention.in_proj_weight")
        for name, first, num in (("query", 0, 4), ("key", 8, 2), ("value", 12, 2)):
            for rank in (0, 1):
                part = values(cut, f"{base}.attention.{name}.weight@slice{rank}")
                start = (first + rank * num) * row
                assert part == whole[start : start + num * row], (slot, name, rank)
        whole = values(packed, f"{base}.feed_forward.up.weight")
        gate = values(cut, f"{base}.feed_forward.gate.weight@slice1")
        assert gate == whole[8 * row : 16 * row]
    assert len({*packed.values()}) > 10


def refused(source: Path, num_ranks: int, num_slices: int, **settings: object) -> str:
    """Return what all ranks raise, after which no weight has changed."""

    def body(comm: Communicator) -> str:
        manager = manage(comm, num_slices, **settings)  # type: ignore[arg-type]  # as given
        before = manager.weights_hash()
        with pytest.raises(CheckpointMismatch) as error:
            manager.load(source)
        assert manager.weights_hash() == before
        return str(error.value)

    return run_threads(num_ranks, body)[0]


@pytest.mark.parametrize(("saved", "here"), [((2, 2), (1, 0)), ((1, 0), (2, 2))])
def test_other_widths_are_told_in_rows_of_both(
    tmp_path: Path, saved: tuple[int, int], here: tuple[int, int]
) -> None:
    narrow = saved_at(tmp_path / "narrow", *saved, width=12)
    assert "does not fit" in refused(narrow, *here)

    def body(comm: Communicator) -> tuple[str, ...]:
        return manage(comm, here[1]).load(narrow, strict=False).notes

    notes = run_threads(here[0], body)[0]
    (told,) = [n for n in notes if n.startswith("'block.feed_forward.up.weight'")]
    assert "stays as it is" in told
    assert "24 rows there and 32 here" in told


def test_averages_over_packed_rows_need_a_word(tmp_path: Path) -> None:
    def adafactor(net: nn.Cell) -> Optimizer:
        return optim.AdaFactor(net.trainable_params())

    packed = saved_at(tmp_path / "packed", 1, 0, make=adafactor)
    text = refused(packed, 1, 1, make=adafactor)
    assert "is of whole matrices" in text
    assert "weights_only=True" in text

    def body(comm: Communicator) -> None:
        manage(comm, 1, adafactor).load(packed, weights_only=True)
        notes = manage(comm, 1, adafactor).load(packed, strict=False).notes
        assert any("stays as it is" in note for note in notes)

    run_threads(1, body)


@pytest.mark.parametrize(("saved", "here"), [(0, 1), (1, 0)])
def test_frozen_parameters_in_another_form_are_told(
    tmp_path: Path, saved: int, here: int
) -> None:
    names = {0: "in_proj_weight", 1: "query.weight"}
    frozen = saved_at(tmp_path / "frozen", 1, saved, frozen="attention")
    notes = moved(frozen, tmp_path / "trained", 1, here)
    told = f"moment1 of 'block.attention.{names[here]}' starts anew"
    assert any(note.startswith(told) for note in notes)
    notes = moved(
        tmp_path / "trained", tmp_path / "again", 1, saved, frozen="attention"
    )
    told = f"moment1 of 'block.attention.{names[here]}' is dropped"
    assert any(note.startswith(told) for note in notes)


def test_only_what_cells_say_is_looked_for() -> None:
    net = nn.SequentialCell(nn.Dense(2, 3), nn.SwiGLU(4, 8))
    assert packings_of(net) == (("1.up.weight", ("1.gate.weight", "1.up.weight")),)
    assert packings_of(nn.Dense(2, 3)) == ()
    assert packings_of([nn.Dense(2, 3).weight]) == ()
