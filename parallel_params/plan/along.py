"""What cells send along an axis in the middle of a pass: which collectives, in order.

Found out by a rehearsal of the cells (`nn/parallel/rehearsal.py`); kept and shown here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from parallel_params.plan.text import format_bytes, format_count, format_table, plural


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisCall:
    """One collective along an axis.

    Attributes:
        operator: that makes it, as errors name it.
        what: the shape and type of what a rank brings.
        bytes_sent: by a rank, with the 8 bytes to each other one that go before.
        bytes_between_nodes: of these, to ranks of other nodes.
    """

    operator: str
    what: str
    bytes_sent: int
    bytes_between_nodes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisTraffic:
    """What one rank sends along an axis in a step.

    Attributes:
        axis: its name.
        num_ranks: along it.
        num_passes: grains that a rank takes in a step, one after the other.
        course: the collectives of each pass, forward and backward, in order.
        calls: of the communicator in a step, by kind.
        bytes_sent: in a step, by the closed formula of each kind.
    """

    axis: str
    num_ranks: int
    num_passes: int
    course: tuple[AxisCall, ...]
    calls: Mapping[str, int]
    bytes_sent: Mapping[str, int]

    @property
    def num_collectives(self) -> int:
        """Calls of a step, of all kinds."""
        return sum(self.calls.values())

    @property
    def total_bytes_sent(self) -> int:
        """Bytes of a step, of all kinds."""
        return sum(self.bytes_sent.values())

    @property
    def bytes_between_nodes(self) -> int:
        """Bytes of a step to ranks of other nodes."""
        found = sum(call.bytes_between_nodes for call in self.course)
        return self.num_passes * found

    def as_json(self) -> dict[str, object]:
        """Return all of it in JSON's types."""
        return asdict(self)

    def describe(self) -> str:
        """Write it as lines for a person: by operator, in order of first appearance."""
        names = dict.fromkeys(call.operator for call in self.course)
        lines = [
            (name, [call for call in self.course if call.operator == name])
            for name in names
        ]
        crosses = self.bytes_between_nodes > 0
        rows = [["operator", "times", "bytes", *["to other nodes"] * crosses]]
        for name, calls in [*lines, ("together", list(self.course))]:
            sizes = [sum(call.bytes_sent for call in calls)]
            if crosses:
                sizes.append(sum(call.bytes_between_nodes for call in calls))
            rows.append(
                [
                    name,
                    format_count(self.num_passes * len(calls)),
                    *(format_bytes(self.num_passes * size) for size in sizes),
                ]
            )
        grains = f"each of its {self.num_passes} grains"
        if self.num_passes == 1:
            grains = "its one grain"
        head = (
            f"along axis {self.axis!r}, {plural(self.num_ranks, 'rank')}, a rank sends "
            f"in a step for {grains} (in order of appearance; 8 bytes to each other "
            "rank go before each)"
        )
        align = "<" + ">" * (len(rows[0]) - 1)
        return "\n".join([head, *format_table(rows, align=align)]) + "\n"
