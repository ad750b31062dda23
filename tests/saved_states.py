"""Training states on disk that tests of checkpoints share: made, loaded, compared."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from odd_nets import OPTIMIZERS, OddNet, policy_of
from ranked import assert_on_all_ranks
from small_nets import global_batch, loss_of, share_of

from parallel_params.checkpoint.hashes import hash_of
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.strict_json import canonical
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointError
from parallel_params.manager import ParameterManager
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.optim import Momentum
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy
from parallel_params.tensor.tensor import Tensor

GRAINS = BATCH = 8
NUM_STEPS = 2
MakeOptimizer = Callable[[Cell], Optimizer | Sequence[Optimizer]]


def make_manager(
    comm: Communicator,
    level: int = 1,
    *,
    seed: int = 0,
    per_node: int | None = None,
    optimizer: str = "adamw",
    policy: Policy | None = None,
) -> tuple[ParameterManager, Cell]:
    """Return a manager of an `OddNet`, and the net."""
    net = OddNet(seed)
    # Sizes that do not divide the grains take one grain per rank.
    grains = GRAINS if GRAINS % comm.size == 0 else None
    manager = ParameterManager(
        net,
        OPTIMIZERS[optimizer](net),
        comm=comm,
        policy=policy or policy_of(level, grains=grains),
        mesh=Mesh(data=comm.size, ranks_per_node=per_node),
    )
    return manager, net


def take_steps(manager: ParameterManager, net: Cell, until: int = NUM_STEPS) -> None:
    """Train on the batches that follow, up to a number of steps."""
    for step in range(manager.num_steps, until):
        manager.step(loss_of(net), *share_of(manager.comm, *global_batch(BATCH, step)))


def save_trained(comm: Communicator, path: Path) -> None:
    """Save an `OddNet` that was trained."""
    manager, net = make_manager(comm, 1)
    take_steps(manager, net)
    manager.save(path)


def manager_of(comm: Communicator, *parameters: Parameter) -> ParameterManager:
    """Return a manager of single parameters, with Momentum."""
    return ParameterManager(
        list(parameters),
        Momentum([p for p in parameters if p.requires_grad], 0.1, 0.9),
        comm=comm,
        policy=policy_of(1),
    )


def weight(name: str, *shape: int, **flags: bool) -> Parameter:
    """Return a parameter of ones."""
    return Parameter(Tensor(np.ones(shape, np.float32)), name=name, **flags)


def tensors_in(path: Path) -> Mapping[str, bytes]:
    """Return the bytes of every tensor of a checkpoint, checked, by file name."""
    reader = Reader.open(path)
    with reader:
        return {
            f"{stored.key.slot}/{stored.file_key}": stored.dtype.encode()
            + np.ascontiguousarray(reader.array(stored)).tobytes()
            for stored in reader.manifest.tensors
        }


def edit(saved: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]  # JSON
    """Change a manifest as somebody does who knows how its hash is made."""
    record = json.loads((saved / "manifest.json").read_text())
    record.pop("checksum")
    change(record)
    text = canonical({**record, "checksum": hash_of(canonical(record))})
    (saved / "manifest.json").write_bytes(text)


def refused(saved: Path, kind: type[CheckpointError], *words: str) -> None:
    """Load on two ranks: all raise `kind` with these words, and no weight moves."""

    def body(comm: Communicator) -> None:
        manager, _ = make_manager(comm, 2, seed=5)
        before = manager.weights_hash()
        text = "nothing was raised"
        try:
            manager.load(saved)
        except kind as error:
            text = "" if type(error) is kind else f"it was {error!r}"
            text += "".join(
                f"no {w!r} in {error}" for w in words if w not in str(error)
            )
        text += "" if manager.weights_hash() == before else "; weights moved"
        text += "" if manager.num_steps == 0 else "; steps moved"
        assert_on_all_ranks(comm, not text, text)

    run_threads(2, body)
