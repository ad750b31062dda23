"""What a plan costs: bytes per class of ranks and per node, messages, seconds.

Ranks that hold and send the same are one class, found from the borders of the buckets
in closed form: 100 000 ranks cost no more than eight. Computing time is not in it.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parallel_params.plan.announce import Message, Purpose, announce_step
from parallel_params.plan.memory import RankBytes
from parallel_params.plan.mesh import Mesh
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
        ranks: Neighbours, first to last.
        bytes_held: By each of them.
        traffic: Of each of them, by purpose, in the order of the step.
    """

    ranks: range
    bytes_held: RankBytes
    traffic: tuple[Traffic, ...]

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
        classes: All ranks, in order.
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
    starts = _class_starts(plan)
    classes: list[RankClass] = []
    for start, stop in zip(starts, [*starts[1:], plan.mesh.size], strict=True):
        traffic = _count_traffic(plan, start, machine)
        held = plan.bytes_per_rank(start)
        ranks = range(start, stop)
        if classes and (classes[-1].bytes_held, classes[-1].traffic) == (held, traffic):
            ranks = range(classes.pop().ranks.start, stop)
        classes.append(RankClass(ranks=ranks, bytes_held=held, traffic=traffic))
    return Estimate(
        classes=tuple(classes), node_bytes=max(_node_totals(plan.mesh, classes))
    )


def _class_starts(plan: Plan) -> list[int]:
    """Return the ranks at which the bytes of some bucket may change, from rank 0."""
    mesh = plan.mesh
    starts = {0}
    borders: dict[tuple[str, ...], set[int]] = {}
    for bucket in plan.buckets:
        num_owners = plan.group_size(bucket)
        borders.setdefault(bucket.axes, set()).update(
            border
            for border in bucket.borders(num_owners, alignment=plan.policy.alignment)
            if 0 < border < num_owners
        )
    for axes, positions in borders.items():
        if positions:
            starts.update(_ranks_at(mesh, axes, positions))
    return sorted(starts)


def _ranks_at(mesh: Mesh, axes: tuple[str, ...], positions: set[int]) -> Iterator[int]:
    """Yield the ranks at which a position along `axes` comes up, or starts over."""
    others = mesh.others(axes)
    is_leading = mesh.axes[: len(axes)] == axes
    # Along leading axes the position rises with the rank, and the first slice comes up
    # first. Along others it starts over in every block of ranks.
    for index in range(1 if is_leading else mesh.group_size(others)):
        for position in positions:
            yield mesh.member(axes, position=position, slice_index=index)
    if not is_leading:
        inner = mesh.axes[mesh.axes.index(others[-1]) + 1 :]
        yield from range(0, mesh.size, mesh.group_size(inner))


def _count_traffic(plan: Plan, rank: int, machine: Machine) -> tuple[Traffic, ...]:
    lines: dict[Purpose, list[tuple[int, Message]]] = {}
    links: dict[tuple[str, ...], _Link] = {}
    for times, messages in announce_step(plan, rank):
        for message in messages if times else ():
            lines.setdefault(message.purpose, []).append((times, message))
            if message.axes not in links:
                links[message.axes] = _link(plan.mesh, rank, message.axes, machine)
    return tuple(
        Traffic(
            purpose=purpose,
            num_collectives=sum(times for times, _ in line),
            bytes_sent=sum(times * message.bytes_sent for times, message in line),
            seconds=math.fsum(
                times * links[message.axes].seconds(message) for times, message in line
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


def _link(mesh: Mesh, rank: int, axes: tuple[str, ...], machine: Machine) -> _Link:
    if mesh.is_on_one_node(rank, axes):
        latency_s, bytes_per_s = machine.node_latency_s, machine.node_bytes_per_s
    else:
        latency_s = machine.network_latency_s
        bytes_per_s = machine.network_bytes_per_s / mesh.ranks_per_node
    return _Link(
        num_others=mesh.group_size(axes) - 1,
        latency_s=latency_s,
        bytes_per_s=bytes_per_s,
    )


def _node_totals(mesh: Mesh, classes: Sequence[RankClass]) -> Iterator[int]:
    """Yield the bytes of every node that can be the fullest.

    A node within one class is like the next one within it; only the nodes at the ends
    of a class differ.
    """
    per_node = mesh.ranks_per_node
    ends = [ranks.ranks.stop for ranks in classes]
    for node in {
        node
        for each in classes
        for first in [mesh.node(each.ranks.start)]
        for node in (first, first + 1, mesh.node(each.ranks[-1]))
        if node < mesh.num_nodes
    }:
        start, stop = node * per_node, min((node + 1) * per_node, mesh.size)
        total = 0
        for each in classes[bisect_right(ends, start) :]:
            if each.ranks.start >= stop:
                break
            shared = min(stop, each.ranks.stop) - max(start, each.ranks.start)
            total += shared * each.bytes_held.total
        yield total
