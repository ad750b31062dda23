"""One rank on one of two hosts: trains on meshes at levels, counts what is sent.

Prints a line of JSON on rank 0: for every case the hash of the weights, the bytes that
plan and cells announce over the cable, those that the cable has carried, and those that
went along the layerwise axis.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from cut_nets import NETS
from numpy.typing import NDArray

import parallel_params as pp
from parallel_params import nn, ops, optim
from parallel_params.comm.ledger import Ledger
from parallel_params.comm.protocol import Communicator
from parallel_params.nn import parallel
from parallel_params.nn.parallel import Axis
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.grad import value_and_grad
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tensor import Tensor

WIDTHS = (384, 640, 384, 10)
NUM_STEPS, BATCH, GRAINS = 3, 192, 4
PER_HOST = 2
# The last axis runs fastest: the model axis lies inside a host, but in the last meshes.
MESHES = {
    "data": {"data": 4},
    "data, model": {"data": 2, "model": 2},
    "pod, data, model": {"pod": 2, "data": 1, "model": 2},
    "model, data": {"model": 2, "data": 2},
    "model": {"data": 1, "model": 4},
    "gpt": {"data": 1, "model": 4},
    "classes": {"data": 1, "classes": 4},
    "experts": {"data": 1, "expert": 4},
}
INSIDE = tuple(MESHES)[:3]
AXES = ("model", "classes", "expert")
CASES = [(which, level) for which in MESHES for level in range(4)]


@dataclass(frozen=True)
class Outcome:
    """What came of a training: the weights' hash, and bytes of all steps together.

    Attributes:
        hash: of the weights.
        announced: bytes that the first host sends over the cable, by the plan.
        carried: bytes that its end of the cable has counted.
        along_axis: bytes that one rank has sent along the layerwise axis.
        announced_along: bytes that cells of the first host send over the cable.
    """

    hash: str
    announced: int
    carried: int
    along_axis: int
    announced_along: int


def make_net(axis: Axis | None) -> nn.Cell:
    """Return an MLP, two layers of which are cut along an axis if there is one."""
    set_seed(5)
    pairs = list(pairwise(WIDTHS))
    if axis is None:
        layers = [nn.Dense(*pair, activation="tanh") for pair in pairs]
        return nn.SequentialCell(*layers)
    return nn.SequentialCell(
        parallel.ColumnParallelDense(*pairs[0], activation="tanh", axis=axis),
        parallel.RowParallelDense(*pairs[1], axis=axis),
        nn.Dense(*pairs[2], activation="tanh"),
    )


def make_loss(net: nn.Cell) -> Callable[[Tensor], Tensor]:
    """Return the loss of a net on samples, which is its output or made of it."""

    def loss_fn(x: Tensor) -> Tensor:
        out: Tensor = net(x)
        return ops.mean(out**2) if out.shape else out

    return loss_fn


def mesh_of(which: str, ranks_per_node: int | None = None) -> Mesh:
    """Return the mesh of a case; its last axis is the layerwise one."""
    axes = MESHES[which]
    last = list(axes)[-1]
    own = last if last in AXES else None
    return Mesh(axes, ranks_per_node=ranks_per_node, layerwise_axis=own)


def train(
    comm: Communicator,
    level: int,
    mesh: Mesh | None = None,
    count: Callable[[], int] = lambda: 0,
    which: str = "",
) -> Outcome:
    """Take some steps of AdamW.

    Args:
        comm: all ranks.
        level: what is cut.
        mesh: where the ranks lie.
        count: what this rank's host has sent so far.
        which: net of `cut_nets.py`, an MLP by default.
    """
    mesh = mesh if mesh is not None else Mesh(data=comm.size)
    make = NETS.get(which, make_net)
    along = Ledger(comm)
    name = mesh.layerwise_axis if mesh.layerwise_axis != "data" else None
    axis = None if name is None else parallel.open_axis(along, mesh, name)
    net = make_net(None) if axis is None else make(axis)
    policy = Policy(level=Level(level), grains=GRAINS, bucket_bytes=256 << 10)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((BATCH, WIDTHS[0]), dtype=np.float32)
    optimizer = optim.AdamW(net.trainable_params(), 1e-2)
    with pp.ParameterManager(
        net, optimizer, policy=policy, comm=comm, mesh=mesh
    ) as manager:
        mine = manager.share(BATCH)
        comm.barrier()
        before, before_along = count(), along.total_bytes_sent
        comm.barrier()
        for _ in range(NUM_STEPS):
            manager.step(make_loss(net), x[mine])
        comm.barrier()
        carried = count() - before
        comm.barrier()
        own = manager.plan.mesh
        announced_along = 0
        if name is not None and comm.rank == 0:
            announced_along = announced_by_cells(own, name, make, x) * NUM_STEPS
        return Outcome(
            carried=carried,
            announced=announced_bytes(manager.plan) * NUM_STEPS,
            along_axis=along.total_bytes_sent - before_along,
            announced_along=announced_along,
            hash=manager.weights_hash(),
        )


def announced_by_cells(
    mesh: Mesh, name: str, make: Callable[[Axis], nn.Cell], x: NDArray[np.float32]
) -> int:
    """Return what cells of the first host's ranks send to the other in one step."""
    grains = GRAINS // mesh.num_shares

    def run(axis: Axis) -> None:
        net = make(axis)
        params = net.trainable_params()
        value_and_grad(make_loss(net), None, params)(Tensor(x[: BATCH // GRAINS]))

    return sum(
        parallel.rehearse_step(
            mesh, name, run, rank=rank, num_passes=grains
        ).bytes_between_nodes
        for rank in range(PER_HOST)
    )


def sent_bytes(device: str = "eth0") -> int:
    """Return what this host has sent over the cable so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == device:
            return int(numbers.split()[8])
    raise OSError(f"no device {device}")


def announced_bytes(plan: Plan) -> int:
    """Return what the first host's ranks send to the other in one step."""
    return sum(
        message.bytes_sent
        for rank in range(min(PER_HOST, plan.mesh.size))
        for message in plan.collectives(rank)
        if len({plan.mesh.node(member) for member in message.group}) > 1
    )


def main() -> None:
    """Train every case; tell what came of it."""
    comm = pp.init()
    outcomes = [
        train(comm, level, mesh_of(which), count=sent_bytes, which=which)
        for which, level in CASES
    ]
    if comm.rank == 0:
        print(json.dumps([asdict(outcome) for outcome in outcomes]), flush=True)


if __name__ == "__main__":
    main()
