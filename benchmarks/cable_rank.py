"""One rank of two hosts: times ways to exchange gradients over the cable between them.

Every way moves the gradients of an MLP and makes the new weights known to all ranks:
`update` is this package's step on gradients that are there already, without momentum so
that there is next to no arithmetic; `step` computes them, with AdamW; Allreduce is the
MPI's own, of one flat buffer in place, alone and with the same update behind it;
sockets are plain ones that carry the same bytes both ways at once. Prints JSON.
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

import parallel_params as pp
from benchmarks.models import fill_start, model_of
from parallel_params import nn, ops, optim
from parallel_params.comm.protocol import Communicator


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way, as the first host saw it.

    Attributes:
        name: for the reader.
        seconds: of each round, on the slowest rank.
        announced_bytes: that the first host sends in a round, by the plan; else 0.
        carried_bytes: that its end of the cable counted in a round, on average.
    """

    name: str
    seconds: list[float]
    announced_bytes: int
    carried_bytes: float


def sent_bytes(device: str = "eth0") -> int:
    """Return what this host has sent over the cable so far.

    Source: Linux, Documentation/networking/statistics.rst.
    """
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == device:
            return int(numbers.split()[8])
    raise OSError(f"this host has no {device}")


def announced_bytes(plan: pp.Plan) -> int:
    """Return what the first host's ranks send to the other one in a step."""
    return sum(
        message.bytes_sent
        for rank in plan.node_group(0)
        for message in plan.collectives(rank)
        if len({plan.mesh.node(member) for member in message.group}) > 1
    )


def make_net(widths: tuple[int, ...]) -> nn.Cell:
    """Return the MLP, the same on all ranks."""
    layers: list[nn.Cell] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        layers.append(nn.Dense(inputs, outputs, activation=None if last else "relu"))
    net = nn.SequentialCell(*layers)
    fill_start(
        [p.asnumpy() for p in net.trainable_params()],
        model_of(",".join(map(str, widths))),
    )
    return net


def time_way(
    comm: Communicator, name: str, call: Callable[[], object], rounds: int, due: int
) -> Way:
    """Time one way; the first call is not counted.

    Collective: all ranks.
    """
    call()
    seconds = np.zeros(rounds)
    comm.barrier()
    before = sent_bytes()
    for i in range(rounds):
        comm.barrier()
        start = time.perf_counter()
        call()
        seconds[i] = time.perf_counter() - start
    comm.barrier()
    carried = (sent_bytes() - before) / rounds
    comm.all_reduce(seconds, op="max")
    return Way(
        name=name,
        seconds=seconds.tolist(),
        announced_bytes=due,
        carried_bytes=carried,
    )


def open_socket(comm: Communicator) -> socket.socket | None:
    """Connect the first ranks of both hosts; None on all others.

    Collective: all ranks.
    """
    listener = None
    if comm.rank == 0:
        own = socket.gethostbyname(socket.gethostname())
        listener = socket.create_server((own, 0))
    told = json.dumps(listener.getsockname() if listener else None).encode()
    address = json.loads(comm.all_gather_bytes(told)[0])
    hosts = comm.all_gather_bytes(socket.gethostname().encode())
    second = next(rank for rank, host in enumerate(hosts) if host != hosts[0])
    if listener is not None:
        with listener:
            return listener.accept()[0]
    return socket.create_connection(address) if comm.rank == second else None


def swap(end: socket.socket | None, buffer: memoryview, received: memoryview) -> None:
    """Send a buffer and receive as many bytes at once."""
    if end is None:
        return
    sender = threading.Thread(target=end.sendall, args=(buffer,))
    sender.start()
    num_received = 0
    while num_received < len(received):
        num_received += end.recv_into(received[num_received:])
    sender.join()


def time_others(comm: Communicator, num_elements: int, rounds: int) -> list[Way]:
    """Time plain sockets and the MPI's own sum.

    Collective: all ranks.
    """
    buffer, weight = np.zeros((2, num_elements), np.float32)
    end = open_socket(comm)
    own, other = memoryview(buffer.view("u1")), memoryview(weight.view("u1"))

    def all_reduce_and_update() -> None:
        comm.all_reduce(buffer)
        np.multiply(buffer, np.float32(1e-6), buffer)
        np.subtract(weight, buffer, weight)

    calls: dict[str, Callable[[], object]] = {
        "Allreduce": lambda: comm.all_reduce(buffer),
        "Allreduce, update": all_reduce_and_update,
        "sockets": lambda: swap(end, own, other),
    }
    return [time_way(comm, name, call, rounds, 0) for name, call in calls.items()]


def time_ours(
    comm: Communicator, level: int, widths: tuple[int, ...], batch: int, rounds: int
) -> list[Way]:
    """Time `update` and `step` at one level.

    Collective: all ranks.
    """
    ways = []
    policy = pp.Policy(level=pp.Level(level))
    net = make_net(widths)
    x = np.ones((batch, widths[0]), np.float32)
    y = np.zeros(batch, np.int64)
    sgd = optim.SGD(net.trainable_params(), 1e-6)
    with pp.ParameterManager(net, sgd, policy=policy, comm=comm) as manager:
        due = announced_bytes(manager.plan)
        if level < 3:
            loss = lambda x, y: 0 * ops.cross_entropy(net(x), y)  # noqa: E731
            # Where the arenas have them: an Allreduce in place copies none either.
            _, zeros = manager.value_and_grad(loss, x, y)
            call = lambda: manager.update(zeros)  # noqa: E731 - called many times
            ways.append(time_way(comm, f"update, level {level}", call, rounds, due))
    net = make_net(widths)
    adamw = optim.AdamW(net.trainable_params(), 1e-6)
    with pp.ParameterManager(net, adamw, policy=policy, comm=comm) as manager:
        due = announced_bytes(manager.plan)
        step = lambda: manager.step(  # noqa: E731 - called many times
            lambda x, y: ops.cross_entropy(net(x), y), x, y
        )
        ways.append(time_way(comm, f"step, level {level}", step, rounds, due))
    return ways


def main() -> None:
    """Time all ways; arguments are widths, batch and rounds."""
    widths = tuple(int(width) for width in sys.argv[1].split(","))
    batch, rounds = int(sys.argv[2]), int(sys.argv[3])
    comm = pp.init()
    num_elements = sum(a * b + b for a, b in pairwise(widths))
    ways = time_others(comm, num_elements, rounds)
    for level in range(4):
        ways += time_ours(comm, level, widths, batch, rounds)
    if comm.rank == 0:
        found = {"mpi": comm.description, "ways": [asdict(way) for way in ways]}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
