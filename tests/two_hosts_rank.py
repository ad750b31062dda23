"""One rank on one of two hosts: trains at every level, counts what its host sends.

Prints a line of JSON on rank 0: for every level the hash of the weights, the bytes that
the plan announces over the cable, and those that the cable has carried.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

import parallel_params as pp
from parallel_params import nn, ops, optim
from parallel_params.comm.protocol import Communicator
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.random import set_seed
from parallel_params.tensor.tensor import Tensor

WIDTHS = (384, 640, 384, 10)
NUM_STEPS, BATCH, GRAINS = 3, 8, 4
PER_HOST = 2


@dataclass(frozen=True)
class Outcome:
    """What came of a training: the weights' hash, and bytes of all steps together."""

    hash: str
    announced: int
    carried: int


def train(
    comm: Communicator,
    level: int,
    mesh: Mesh | None = None,
    count: Callable[[], int] = lambda: 0,
) -> Outcome:
    """Take some steps of AdamW on an MLP.

    Args:
        comm: all ranks.
        level: what is cut.
        mesh: where the ranks lie.
        count: what this rank's host has sent so far.
    """
    set_seed(5)
    pairs = pairwise(WIDTHS)
    net = nn.SequentialCell(*[nn.Dense(*pair, activation="tanh") for pair in pairs])
    policy = Policy(level=Level(level), grains=GRAINS, bucket_bytes=256 << 10)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((BATCH, WIDTHS[0]), dtype=np.float32)
    mine = slice(comm.rank * BATCH // comm.size, (comm.rank + 1) * BATCH // comm.size)

    def loss_fn(x: Tensor) -> Tensor:
        return ops.mean(net(x) ** 2)

    optimizer = optim.AdamW(net.trainable_params(), 1e-2)
    with pp.ParameterManager(
        net, optimizer, policy=policy, comm=comm, mesh=mesh
    ) as manager:
        comm.barrier()
        before = count()
        comm.barrier()
        for _ in range(NUM_STEPS):
            manager.step(loss_fn, x[mine])
        comm.barrier()
        carried = count() - before
        comm.barrier()
        return Outcome(
            carried=carried,
            announced=announced_bytes(manager.plan) * NUM_STEPS,
            hash=manager.weights_hash(),
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
    """Train at every level; tell what came of it."""
    comm = pp.init()
    outcomes = [train(comm, level, count=sent_bytes) for level in range(4)]
    if comm.rank == 0:
        print(json.dumps([asdict(outcome) for outcome in outcomes]), flush=True)


if __name__ == "__main__":
    main()
