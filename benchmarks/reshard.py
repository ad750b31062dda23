"""Checkpoints of every world, level and mesh, loaded into every other, bit for bit.

Worlds of 1 to 8 ranks at levels 0 to 3 on two meshes: all ranks hold the same weights,
or a part of them has slices of two layers. Layouts, nodes and transports take turns.
One training state goes into all of them and is saved there; then each loads what each
has saved, over zeros, and every rank compares all it holds with the state of the run on
one rank. Ranks are threads.
"""

import math
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from parallel_params import nn, ops, optim
from parallel_params.checkpoint.drafting import Remarks
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.live import LivePart, parts_held
from parallel_params.checkpoint.manifest import Key
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.tensors import tensors_of
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parallel import (
    Axis,
    ColumnParallelDense,
    RowParallelDense,
    open_axis,
)
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

WIDTH = 210  # cut by 2, 3, 5 and 7
State = Mapping[tuple[str, str], Array]
"""Whole tensors by name and slot."""


class Quick(Files):
    """Writes without waiting for the disk: no crash is the matter here."""

    def sync(self, descriptor: int) -> None:
        """Do nothing."""

    def sync_folder(self, path: Path) -> None:
        """Do nothing."""


class Net(nn.Cell):
    """Two layers that are cut along dim 0 and dim 1, and parameters that are not."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((5,))
        self.up = ColumnParallelDense(5, WIDTH, axis=axis)
        self.down = RowParallelDense(WIDTH, 3, axis=axis)

    def construct(self, x: Tensor) -> Tensor:
        """Return [samples, 3]."""
        y: Tensor = self.down(ops.tanh(self.up(self.norm(x))))
        return y


@dataclass(frozen=True, slots=True, order=True)
class World:
    """Where a state is held.

    Attributes:
        num_ranks: from 1.
        level: from 0 to 3.
        num_slices: ranks along the axis that cuts layers.
        per_node: ranks of a node.
        layout: of the files saved there.
        transport: `auto` for shared memory, or `messages`.
    """

    num_ranks: int
    level: int
    num_slices: int
    per_node: int
    layout: str
    transport: str

    @property
    def name(self) -> str:
        """A name for its checkpoint."""
        return f"{self.num_ranks}-ranks-level-{self.level}-{self.num_slices}-slices"


def worlds(sizes: Sequence[int] = range(1, 9)) -> Iterator[World]:
    """Yield all of them: sizes, levels, and two meshes."""
    for size in sizes:
        prime = next((n for n in (2, 3, 5, 7) if size % n == 0), 1)
        for level in range(4):
            for is_cut in (False, True) if size > 1 else (False,):
                turn = size + level + is_cut
                yield World(
                    size,
                    level,
                    prime if is_cut else 1,
                    (size, 2, 1)[turn % 3],
                    ("one", "shards")[turn % 2],
                    ("auto", "messages")[turn // 2 % 2],
                )


@contextmanager
def managed(comm: Communicator, world: World, seed: int) -> Iterator[ParameterManager]:
    """Manage the net in a world; in the end manager and axis are closed.

    Collective: all ranks.
    """
    set_seed(seed)
    num_shares = comm.size // world.num_slices
    mesh = Mesh(
        {"data": num_shares, "model": world.num_slices}, ranks_per_node=world.per_node
    )
    policy = Policy(
        level=Level(world.level),
        shard_threshold_bytes=0,
        bucket_bytes=2000,
        alignment=1,
        transport="messages" if world.transport == "messages" else "auto",
    )
    with open_axis(comm, mesh) as axis:
        net = Net(axis)
        mover = optim.AdamW(net.trainable_params(), learning_rate=0.1)
        with ParameterManager(net, mover, comm=comm, mesh=mesh, policy=policy) as made:
            yield made


def save(manager: ParameterManager, path: Path, layout: str) -> None:
    """Save without waiting for the disk."""
    draft = manager.begin_save(path, Remarks(), files=Quick(), serial=1, layout=layout)
    draft.write()
    draft.commit()


def train_alone(path: Path) -> State:
    """Train two steps on one rank, save, and return all of the state."""

    def body(comm: Communicator) -> None:
        world = World(1, 0, 1, 1, "one", "auto")
        with managed(comm, world, seed=1) as manager:
            for number in range(2):
                gradients = {
                    name: np.sin(np.arange(float(p.size)) + number).reshape(p.shape)
                    for name, p in manager._parameters.items()
                }
                manager.update(gradients)
            save(manager, path, "one")

    run_threads(1, body)
    reader = Reader.open(path)
    with reader:
        return {
            (stored.key.name, stored.key.slot): reader.array(stored)
            for stored in reader.manifest.tensors
        }


def parts_of(manager: ParameterManager) -> list[tuple[LivePart, int | None]]:
    """Return all that a rank has after a load, and along which dim it is a slice."""
    dims = {each.key: each for each in tensors_of(manager.plan)}
    return [
        (part, dims[part.key].slice_dim if dims[part.key].num_slices > 1 else None)
        for part in parts_held(manager.plan, manager.comm.rank, manager._open.arenas)
    ]


def wrong_parts(manager: ParameterManager, state: State, num_slices: int) -> list[Key]:
    """Return what of a rank's parts has not the bits of the state."""
    wrong = []
    for part, dim in parts_of(manager):
        whole = state[part.key.name, part.key.slot]
        if dim is not None:
            whole = np.split(whole, num_slices, dim)[part.key.slice_index]
        expected = whole.reshape(-1)[part.interval.as_slice()]
        if part.values.tobytes() != expected.tobytes():
            wrong.append(part.key)
    return wrong


def load_all(
    comm: Communicator,
    world: World,
    paths: Sequence[Path],
    state: State,
    save_as: Path | None = None,
) -> list[str]:
    """Load one checkpoint after the other, each over zeros; return what went wrong.

    Args:
        comm: all ranks.
        world: of these ranks.
        paths: of the checkpoints.
        state: what all of them have.
        save_as: where to save the state in the end; None for nowhere.

    Collective: all ranks.
    """
    problems = []
    with managed(comm, world, seed=2) as manager:
        for path in paths:
            for part, _ in parts_of(manager):
                part.values[...] = 0
            comm.barrier()
            notes = [n for n in manager.load(path).notes if "cut anew" not in n]
            comm.barrier()
            wrong = [str(key) for key in wrong_parts(manager, state, world.num_slices)]
            problems += [f"{path.name} -> {world.name}: {p}" for p in [*notes, *wrong]]
            comm.barrier()
        if save_as is not None:
            save(manager, save_as, world.layout)
    return problems


def run(
    folder: Path, every: Sequence[World], *, most: int | None, seed: int = 0
) -> tuple[int, list[str]]:
    """Save in every world and load in every world.

    Args:
        folder: for the checkpoints.
        every: the worlds.
        most: how many earlier checkpoints each world loads before it saves its own;
            None for all of all, once all are saved.
        seed: of the order and the choice.

    Returns:
        How many loads were compared, and what went wrong.
    """
    state = train_alone(folder / "alone")
    chance = random.Random(seed)
    order = chance.sample([*every], len(every))
    saved, problems, num_loads = [folder / "alone"], [], 0
    for world in order:
        paths = chance.sample(saved, min(most or 1, len(saved)))
        target = folder / world.name
        problems += _in_threads(world, paths, state, target)
        saved.append(target)
        num_loads += len(paths)
    for world in order if most is None else ():
        problems += _in_threads(world, saved, state, None)
        num_loads += len(saved)
    return num_loads, problems


def _in_threads(
    world: World, paths: Sequence[Path], state: State, target: Path | None
) -> list[str]:
    found = run_threads(
        world.num_ranks, lambda comm: load_all(comm, world, paths, state, target)
    )
    return [problem for each in found for problem in each]


def main(
    pairs: int | None = typer.Option(None, help="Loads per world; by default all."),
    seed: int = typer.Option(0, help="Of the order and the choice."),
) -> None:
    """Load checkpoints of all worlds in all worlds and compare every bit."""
    start, every = time.perf_counter(), [*worlds()]
    with tempfile.TemporaryDirectory() as name:
        num_loads, problems = run(Path(name), every, most=pairs, seed=seed)
    seconds = time.perf_counter() - start
    numel = math.prod((WIDTH, 9)) + WIDTH + 13
    typer.echo(
        f"{len(every)} worlds, {num_loads} loads of {3 * numel} numbers, "
        f"{len(problems)} wrong, {seconds:.0f} s"
    )
    for problem in problems[:20]:
        typer.echo(f"  {problem}")
    raise typer.Exit(1 if problems else 0)
