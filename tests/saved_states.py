"""Training states on disk that tests of checkpoints share: made, loaded, compared."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from odd_nets import OPTIMIZERS, OddNet, policy_of
from small_nets import global_batch, loss_of, share_of

from parallel_params.checkpoint.reading import Reader
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.cell import Cell
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy

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


def tensors_in(path: Path) -> Mapping[str, bytes]:
    """Return the bytes of every tensor of a checkpoint, checked, by file name."""
    reader = Reader.open(path)
    with reader:
        return {
            f"{stored.key.slot}/{stored.file_key}": stored.dtype.encode()
            + np.ascontiguousarray(reader.array(stored)).tobytes()
            for stored in reader.manifest.tensors
        }
