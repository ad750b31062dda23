"""What a plan costs: bytes per class of ranks and per node, messages, seconds.

Ranks that hold and send the same are one class, found without asking every rank, so
100 000 ranks cost no more than eight. Computing time is not in it, nor are the sums
that the ranks of a node make in their shared memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from parallel_params.plan.announce import Message, Purpose, Span, announce_step
from parallel_params.plan.classes import (
    RankBlock,
    different_buckets,
    join_runs,
    kinds_of_nodes,
)
from parallel_params.plan.memory import RankBytes
from parallel_params.plan.part import parts_of_many
from parallel_params.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Constants of the alpha-beta model: a message costs latency, a byte costs time.

    The values inside a node are those of MPI without shared windows on two x86 cores
    (medians: 2 to 3 GB/s for buffers past the caches, 4 us a message). Those of the
    network are an assumption: 100 Gbit/s per node, shared by its ranks.

    Source: Hockney, Parallel Computing 20 (1994).
    """

    node_latency_s: float = 4e-6
    node_bytes_per_s: float = 2e9
    network_latency_s: float = 5e-6
    network_bytes_per_s: float = 12.5e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one rank sends in a step for one purpose."""

    purpose: Purpose
    num_collectives: int
    bytes_sent: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RankClass:
    """Ranks that hold the same number of bytes and send the same.

    Attributes:
        blocks: Which ranks these are.
        bytes_held: By each of them.
        traffic: Of each of them, by purpose, in the order of the step. How many sums
            over parameters a rank has to tell depends on where its part lies; these are
            counted for the first rank.
    """

    blocks: tuple[RankBlock, ...]
    bytes_held: RankBytes
    traffic: tuple[Traffic, ...]

    @property
    def num_ranks(self) -> int:
        """Number of ranks."""
        return sum(block.num_ranks for block in self.blocks)

    @property
    def ranks(self) -> Iterator[int]:
        """All of them."""
        return chain.from_iterable(self.blocks)

    @property
    def bytes_sent(self) -> int:
        """Bytes that each of them sends in a step."""
        return sum(line.bytes_sent for line in self.traffic)

    @property
    def num_collectives(self) -> int:
        """Collectives that each of them takes part in."""
        return sum(line.num_collectives for line in self.traffic)

    @property
    def seconds(self) -> float:
        """Time for the collectives of a step, nothing overlapped."""
        return sum(line.seconds for line in self.traffic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a plan costs on a machine.

    Attributes:
        classes: All ranks, each in one class, by their first rank.
        node_bytes: Held by all ranks of the fullest node.
    """

    classes: tuple[RankClass, ...]
    node_bytes: int

    @property
    def heaviest(self) -> RankClass:
        """The class that holds most."""
        return max(self.classes, key=lambda ranks: ranks.bytes_held.total)

    @property
    def slowest(self) -> RankClass:
        """The class whose collectives take longest; the others wait for it."""
        return max(self.classes, key=lambda ranks: ranks.seconds)

    @property
    def most_sent(self) -> int:
        """Bytes sent in a step by the rank that sends most."""
        return max(ranks.bytes_sent for ranks in self.classes)


def estimate(plan: Plan, *, machine: Machine | None = None) -> Estimate:
    """Return what a plan costs, class by class."""
    machine = machine or Machine()
    numbers: dict[bytes, int] = {}
    classes: dict[tuple[RankBytes, tuple[Traffic, ...]], int] = {}
    totals: list[int] = []
    blocks_of: list[list[RankBlock]] = []
    nodes = [*kinds_of_nodes(plan)]
    all_parts = _parts_of_many(plan, [b.first for blocks in nodes for b in blocks])
    node_bytes = 0
    for blocks in nodes:
        on_node = 0
        for block in blocks:
            parts = next(all_parts)
            if parts not in numbers:
                held = plan.bytes_per_rank(block.first)
                costs = held, _count_traffic(plan, block.first, machine)
                number = numbers[parts] = classes.setdefault(costs, len(classes))
                if number == len(totals):
                    totals.append(held.total)
                    blocks_of.append([])
            number = numbers[parts]
            blocks_of[number].append(block)
            on_node += block.length * totals[number]
        node_bytes = max(node_bytes, on_node)
    return Estimate(
        classes=tuple(
            RankClass(blocks=join_runs(blocks), bytes_held=held, traffic=traffic)
            for blocks, (held, traffic) in zip(blocks_of, classes, strict=True)
        ),
        node_bytes=node_bytes,
    )


def _parts_of_many(plan: Plan, ranks: list[int]) -> Iterator[bytes]:
    """Yield something that is equal for ranks of equal parts in all buckets."""
    each = np.array(ranks, np.int64)
    parts = [parts_of_many(plan, bucket, each) for bucket in different_buckets(plan)]
    for row in np.hstack([np.empty((len(ranks), 0), np.int64), *parts]):
        yield row.tobytes()


def _count_traffic(plan: Plan, rank: int, machine: Machine) -> tuple[Traffic, ...]:
    lines: dict[Purpose, list[tuple[int, Message]]] = {}
    links: dict[tuple[Span, tuple[str, ...]], _Link] = {}
    for times, messages in announce_step(plan, rank):
        for message in messages if times else ():
            lines.setdefault(message.purpose, []).append((times, message))
            if (message.span, message.axes) not in links:
                link = _link(plan, rank, message, machine)
                links[message.span, message.axes] = link
    return tuple(
        Traffic(
            purpose=purpose,
            num_collectives=sum(times for times, _ in line),
            bytes_sent=sum(times * message.bytes_sent for times, message in line),
            seconds=math.fsum(
                times * links[message.span, message.axes].seconds(message)
                for times, message in line
            ),
        )
        for purpose, line in lines.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """What lies between a rank and the others of a group."""

    num_others: int
    latency_s: float
    bytes_per_s: float

    def seconds(self, message: Message) -> float:
        """Return the time of one collective for one rank: latency and the larger flow.

        An `all_to_all` sends to each other rank by itself; the others need as many
        rounds as the number of other ranks has binary digits.

        Source: Thakur, Rabenseifner, Gropp, Int. J. High Perf. Comp. App. 19 (2005),
            section 4.
        """
        is_direct = message.kind == "all_to_all"
        rounds = self.num_others if is_direct else self.num_others.bit_length()
        flow = max(message.bytes_sent, message.bytes_received)
        return rounds * self.latency_s + flow / self.bytes_per_s


def _link(plan: Plan, rank: int, message: Message, machine: Machine) -> _Link:
    mesh, axes = plan.mesh, message.axes
    num_ranks = mesh.group_size(axes)
    is_near = mesh.is_on_one_node(rank, axes)
    if message.span == "node":
        num_ranks, is_near = min(mesh.ranks_per_node, mesh.size), True
    elif message.span == "cross" and message.bucket is not None:
        num_ranks = plan.lattice(plan.buckets[message.bucket]).num_nodes
    latency_s, bytes_per_s = machine.node_latency_s, machine.node_bytes_per_s
    if not is_near:
        latency_s = machine.network_latency_s
        bytes_per_s = machine.network_bytes_per_s / mesh.ranks_per_node
    return _Link(num_others=num_ranks - 1, latency_s=latency_s, bytes_per_s=bytes_per_s)
