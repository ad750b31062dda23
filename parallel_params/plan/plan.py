"""The Plan: who holds which interval of what, and what moves in a step.

A value, made by one pure function from parameters, mesh and policy. It opens no
communicator and holds no array; it depends on no rank.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from parallel_params.plan.along import AxisTraffic
from parallel_params.plan.announce import (
    Collective,
    Message,
    Span,
    announce_step,
)
from parallel_params.plan.grains import check_grains, resolve_grains
from parallel_params.plan.layout import Layout
from parallel_params.plan.memory import RankBytes, count_rank_bytes
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.pack import pack
from parallel_params.plan.place import check_names, check_overrides, place
from parallel_params.plan.policy import Policy
from parallel_params.plan.spec import ParamSpec

__all__ = ["ParamSpec", "Plan", "make_plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Layout):
    """Everything the runtime executes, for every rank at once.

    Make one with `make_plan`; equal plans have equal digests.

    Attributes:
        params: In declaration order.
        mesh: The names of the ranks.
        policy: What the user chose.
        buckets: In the order in which gradients become ready.
    """

    @property
    def grains(self) -> int:
        """Number of grains: the leaves of the reduction tree, one per share if fast."""
        return resolve_grains(self.mesh, self.policy)

    @property
    def grains_per_rank(self) -> int:
        """Consecutive grains that each rank computes."""
        return self.grains // self.mesh.num_shares

    @property
    def num_partials(self) -> int:
        """Gradient buffers of a rank while it sums its grains, its gradient included.

        A binary counter: `n` grains need a buffer per bit of `n`.
        """
        return self.grains_per_rank.bit_length()

    @property
    def is_same_bits_everywhere(self) -> bool:
        """Whether the weights are the same bits at every world size that is promised.

        These are the powers of two that divide the grains: only then is every rank's
        share of the grains a whole subtree of the canonical tree.
        """
        is_power_of_two = self.grains & (self.grains - 1) == 0
        is_exact = self.policy.wire_dtype is None
        return self.policy.reduction == "canonical" and is_power_of_two and is_exact

    @property
    def has_bits_of_node_map(self) -> bool:
        """Whether other nodes of the same ranks would give other bits.

        Ranks of a node add up first: that is a subtree of all if their number is a
        power of two, and if what leaves the node is not rounded.
        """
        is_tree = self.policy.reduction == "canonical" and not self.policy.wire_dtype
        lattices = [self.lattice(b) for b in self.buckets if b.is_trainable]
        if not is_tree:
            return any(lattice.size > 1 for lattice in lattices)
        return any(
            lattice.num_nodes > 1 and lattice.num_local & (lattice.num_local - 1)
            for lattice in lattices
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, in hex: equal on all ranks or the plans differ."""
        from parallel_params.plan.codec import digest

        return digest(self)

    def collectives(self, rank: int) -> tuple[Collective, ...]:
        """Return the collectives of one step in the order `rank` issues them."""
        groups: dict[tuple[Span, tuple[str, ...]], tuple[int, ...]] = {}
        step = []
        for times, messages in announce_step(self, rank):
            for message in messages * times:
                who = (message.span, message.axes)
                if who not in groups:
                    groups[who] = self.ranks_of(message, rank)
                step.append(
                    Collective(
                        kind=message.kind,
                        purpose=message.purpose,
                        bucket=message.bucket,
                        group=groups[who],
                        bytes_sent=message.bytes_sent,
                        bytes_received=message.bytes_received,
                    )
                )
        return tuple(step)

    def ranks_of(self, message: Message, rank: int) -> tuple[int, ...]:
        """Return the ranks that take part in a message that `rank` issues."""
        if message.span == "node":
            return self.node_group(rank)
        if message.span == "cross" and message.bucket is not None:
            return self.cross_group(self.buckets[message.bucket], rank)
        return self.mesh.group(rank, message.axes)

    def bytes_per_rank(self, rank: int) -> RankBytes:
        """Return what `rank` holds: each kind of storage, and work buffers."""
        return count_rank_bytes(self, rank)

    def describe(self, *, most_rows: int = 12, along: AxisTraffic | None = None) -> str:
        """Return a page for a person: who holds what, and what moves in a step.

        Args:
            most_rows: Rows of the table of buckets; the rest is summed up.
            along: What cells send along an axis on top of the plan, if anything.
        """
        from parallel_params.plan.describe import describe

        return describe(self, most_rows=most_rows, along=along)

    def summarise(self, *, most_rows: int = 12) -> str:
        """Return the page of `describe` in short, as a run shows it at its start."""
        from parallel_params.plan.describe import summarise

        return summarise(self, most_rows=most_rows)

    def explain(self, name: str) -> str:
        """Return what each flag did to one parameter, and what flipping it would do.

        Raises:
            PlanError: no parameter has this name; the message has the nearest ones.
        """
        from parallel_params.plan.explain import explain

        return explain(self, name)


def make_plan(specs: Iterable[ParamSpec], mesh: Mesh, policy: Policy) -> Plan:
    """Compute the plan of a model.

    Args:
        specs: Its parameters, in declaration order; tied ones once, with aliases.
        mesh: The ranks.
        policy: The user's choices.

    Raises:
        PlanError: parameters, mesh and policy contradict each other, or a rank would
            hold more than `policy.memory_limit_bytes`. What machines have is not asked.

    Examples:
        >>> plan = make_plan([ParamSpec("w", (256, 256))], Mesh(data=4), Policy())
        >>> [str(interval) for interval in plan.intervals(plan.bucket_of("w"))][:2]
        ['[0, 16384)', '[16384, 32768)']
    """
    from parallel_params.plan.fit import check_memory

    params = tuple(specs)
    check_names(params)
    check_overrides(params, policy)
    check_grains(mesh, policy)
    placements = [place(spec, mesh=mesh, policy=policy) for spec in params]
    buckets = pack(params, placements, mesh=mesh, policy=policy)
    plan = Plan(params=params, mesh=mesh, policy=policy, buckets=buckets)
    check_memory(plan)
    return plan
