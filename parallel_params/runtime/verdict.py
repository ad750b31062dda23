"""One decision of all ranks about the gradients of a step: take them, scaled, or not.

In one message every rank tells the first element of its reduced intervals that is no
finite number, and what its intervals contribute to the norms that clipping needs. Each
element is counted once: by its owner; what is a rank's own is counted by every rank.
Norms are added in float64 in the tree of `totals.py`, so they have the same bits on
any number of ranks.

Source of clipping by norm: Pascanu et al., On the difficulty of training recurrent
neural networks (2013), algorithm 1.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from parallel_params.comm.protocol import Communicator
from parallel_params.optim.settings import Settings
from parallel_params.optim.sums import square_sums
from parallel_params.plan.leaves import leaf_edges
from parallel_params.plan.plan import Plan
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.leaves import owned_trees
from parallel_params.runtime.reducer import Cause
from parallel_params.runtime.totals import Totals
from parallel_params.runtime.tree import tree_sum
from parallel_params.tensor.tape import Array

NUM_FLAGS = 3
"""In front of the message: parameter and element of what is not finite, cause and rank
in one."""


class NonFinite(NamedTuple):
    """An element of a reduced gradient that is infinite or no number; sortable.

    Attributes:
        parameter: its number in the plan.
        element: its number, in C order.
        cause: why.
        rank: whose gradient or message it is, or who found it in the sum.
    """

    parameter: int
    element: int
    cause: Cause
    rank: int

    def describe(self, plan: Plan) -> str:
        """Say what is wrong, and what to do about it if that is not plain."""
        name = plan.params[self.parameter].name
        bucket = plan.bucket_of(name)
        where = f"at element {self.element} (bucket {bucket.index})"
        if self.cause in (Cause.GRADIENT, Cause.NODE):
            whose = "the node of rank" if self.cause is Cause.NODE else "rank"
            return (
                f"the gradient of {name!r} from {whose} {self.rank} is not finite "
                f"{where}"
            )
        if self.cause is Cause.UNKNOWN:
            return (
                f"the sum of the gradients of {name!r} is not finite {where}; MPI made "
                "it and does not tell why, reduction='canonical' would"
            )
        remedy = "Use a lower loss scale"
        if self.cause is Cause.WIRE:
            wire = plan.policy.wire_dtype
            return (
                f"the gradient of {name!r} is finite, but what rank {self.rank} sends "
                f"to another node overflows wire_dtype = {wire!r} {where}. {remedy}, "
                "or wire_dtype = 'bfloat16' or None"
            )
        return (
            f"the gradient of {name!r} is finite on every rank, but the sum overflows "
            f"{bucket.dtype} {where}. {remedy}, or a wider dtype"
        )


class Decision(NamedTuple):
    """What all ranks found out about a step's gradients.

    Attributes:
        non_finite: which element is not finite and why, in words; None if all are.
        norms: of the mean gradients, before clipping: `""` for all together, the
            number of the group, or the name of the parameter; empty without clipping.
        factors: on the gradient, by the same keys; 1 where nothing is clipped.
    """

    non_finite: str | None
    norms: Mapping[object, float]
    factors: Mapping[object, float]


TAKEN = Decision(None, MappingProxyType({}), MappingProxyType({}))
"""Of gradients that are taken as they are."""


class Verdict:
    """Reaches the decision of a step.

    Args:
        plan: says who owns what.
        comm: all ranks.
        arenas: of the trainable buckets, in plan order.
        settings: by parameter name.
    """

    def __init__(
        self,
        plan: Plan,
        comm: Communicator,
        arenas: Sequence[Arena],
        settings: Mapping[str, Settings],
    ) -> None:
        self._plan, self._comm, self._arenas = plan, comm, tuple(arenas)
        self._settings = settings
        # Norms are added in this order, and not in that of the buckets.
        self._last_first = {spec.name: -i for i, spec in enumerate(plan.params)}
        clip = plan.policy.clip
        self._has_norms = clip is not None and clip.norm is not None
        self._is_alone = comm.size == 1
        members = [(a.bucket, e) for a in arenas for e in a.bucket.extents]
        self._members = members if self._has_norms else []
        self._totals = Totals(
            owned_trees(plan, self._members, range(comm.size)),
            [1] * len(self._members),
            num_ranks=comm.size,
            position=comm.rank,
        )
        self._counts = [NUM_FLAGS + count for count in self._totals.counts]
        self._message = np.zeros(sum(self._counts))
        edges = [0, *accumulate(self._counts)]
        self._parts = [slice(*pair) for pair in pairwise(edges)]

    def reach(self, found: NonFinite | None, scales: Mapping[int, float]) -> Decision:
        """Tell all ranks what this one found, and learn what is to be done.

        Args:
            found: in this rank's reduced intervals.
            scales: by bucket index; the gradients meant are this times the reduced.

        Collective: all ranks, behind all reductions of a step.
        """
        if self._is_alone and not self._has_norms:
            if found is None:
                return TAKEN
            return Decision(found.describe(self._plan), {}, {})
        message = np.concatenate(
            [self._flags(found), self._totals.pack(self._own_sums())]
        )
        start = sum(self._counts[: self._comm.rank])
        self._message[start : start + len(message)] = message
        if self._comm.size > 1:
            self._comm.all_gather(self._message, self._counts)
        parts = [self._message[part] for part in self._parts]
        told = [tuple(part[:NUM_FLAGS].tolist()) for part in parts]
        first = min((flags for flags in told if flags[0] >= 0), default=None)
        norms: Mapping[object, float] = {}
        if self._has_norms:
            sums = np.concatenate([part[NUM_FLAGS:] for part in parts])
            norms = self._norms(sums, scales)
        return Decision(
            non_finite=None if first is None else self._named(first),
            norms=norms,
            factors={key: self._factor(norm) for key, norm in norms.items()},
        )

    def _flags(self, found: NonFinite | None) -> Array:
        if found is None:
            return np.array([-1.0, 0.0, 0.0])
        who = found.cause * self._comm.size + found.rank
        return np.array([found.parameter, found.element, who], float)

    def _named(self, flags: Sequence[float]) -> str:
        position, index, who = map(int, flags)
        cause, rank = divmod(who, self._comm.size)
        return NonFinite(position, index, Cause(cause), rank).describe(self._plan)

    def _own_sums(self) -> list[Array]:
        """Return the sums of squares over this rank's leaves of every parameter."""
        if not self._has_norms:
            return []
        sums = []
        for arena in self._arenas:
            own = arena.role.own
            for extent in arena.bucket.extents:
                part = extent.interval.intersect(own)
                edges = leaf_edges(
                    arena.bucket, extent, part, self._plan.policy.alignment
                )
                start = 0 if part.is_empty else part.start - own.start
                values = arena.own_reduced[start : start + part.numel]
                with np.errstate(over="ignore", invalid="ignore"):
                    leaves = square_sums(values, np.asarray(edges, np.int64))
                sums.append(leaves[:, None])
        return sums

    def _norms(self, sums: Array, scales: Mapping[int, float]) -> dict[object, float]:
        found = {
            extent.name: float(total[0]) * scales[bucket.index] ** 2
            for (bucket, extent), total in zip(
                self._members, self._totals.combine(sums), strict=True
            )
        }
        squares: dict[object, list[float]] = {}
        for name in sorted(found, key=self._last_first.__getitem__):
            squares.setdefault(self.key_of(name), []).append(found[name])
        return {key: math.sqrt(tree_sum(each)) for key, each in squares.items()}

    def key_of(self, name: str) -> object:
        """Return under which key the norm is that bounds a parameter's gradient."""
        clip = self._plan.policy.clip
        if clip is None or clip.norm is None or clip.per == "all":
            return ""
        if clip.per == "parameter":
            return name
        return self._plan.bucket_of(name).optimizer, self._settings[name].group

    def _factor(self, norm: float) -> float:
        clip = self._plan.policy.clip
        assert clip is not None
        assert clip.norm is not None
        return clip.norm / norm if norm > clip.norm else 1.0
