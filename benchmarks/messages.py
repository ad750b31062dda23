"""What the benchmark and the ranks of its child worlds say to each other.

Nothing but values that can be pickled; no import that a rank would have to pay for.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Call a method with these arguments; the first order names the class."""

    method: str
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The rank is made."""

    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The rank raised."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a rank of a world without MPI finds the others.

    Attributes:
        store: address of what torch calls a store.
        rank: this one.
        num_ranks: all of them.
    """

    store: str
    rank: int
    num_ranks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What some steps took.

    Attributes:
        seconds: of each step on this rank.
        losses: of each step before its update, of this rank's share or of all.
        num_faults: pages that the system had to give to this process in all of them.
    """

    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    num_faults: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process has in memory.

    Attributes:
        now_bytes: resident.
        peak_bytes: the most there was.
    """

    now_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a model takes by its own account.

    Attributes:
        num_elements: of all parameters.
        planned_bytes: of this rank by the plan; None where there is none.
        largest_bucket_bytes: of weights; 0 where there is no plan.
    """

    num_elements: int
    planned_bytes: int | None = None
    largest_bucket_bytes: int = 0
