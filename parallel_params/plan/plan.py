"""The Plan: who holds which interval of what, and what moves in a step.

A value, made by one pure function from parameters, mesh and policy. It opens no
communicator and holds no array; it depends on no rank. The flags of a parameter are
read in `place` and nowhere else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from parallel_params.errors import PlanError
from parallel_params.plan.announce import Collective, announce_step
from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.grains import check_grains, resolve_grains
from parallel_params.plan.interval import EMPTY, Interval
from parallel_params.plan.memory import RankBytes, count_rank_bytes
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.pack import Placement, Whole, pack
from parallel_params.plan.policy import Kind, Policy
from parallel_params.plan.spec import TRAINABLE_DTYPES, ParamSpec
from parallel_params.plan.text import did_you_mean

__all__ = ["ParamSpec", "Plan", "check_names", "make_plan", "place"]

# MPI sums neither; canonical reduction sends bytes and sums them itself.
_DTYPES_WITHOUT_MPI_SUM = frozenset({"bfloat16", "float16"})


def place(spec: ParamSpec, *, mesh: Mesh, policy: Policy) -> Placement:
    """Compile the flags of one parameter into its place; nothing else reads them.

    A layerwise-parallel parameter is reduced over all axes but the layerwise one, so
    its state is cut among ranks of equal values, whatever `parallel_optimizer` is.

    Raises:
        PlanError: the flags contradict the dtype, the mesh or the policy.
    """
    if spec.requires_grad:
        _check_trainable(spec, policy)
    axes = mesh.axes
    if spec.layerwise_parallel:
        if mesh.layerwise_axis is None:
            raise PlanError(
                f"parameter {spec.name!r} is layerwise-parallel, but {mesh!r} does not "
                "say along which axis. Name it: "
                f"Mesh(..., layerwise_axis={mesh.axes[-1]!r})"
            )
        axes = mesh.others((mesh.layerwise_axis,))
    kept_whole = None
    if spec.weight_bytes < policy.shard_threshold_bytes:
        kept_whole = Whole.BY_THRESHOLD
    elif not (spec.parallel_optimizer or spec.layerwise_parallel):
        kept_whole = Whole.BY_FLAG
    return Placement(axes=axes, is_trainable=spec.requires_grad, kept_whole=kept_whole)


def _check_trainable(spec: ParamSpec, policy: Policy) -> None:
    if spec.dtype not in TRAINABLE_DTYPES:
        raise PlanError(
            f"parameter {spec.name!r}: dtype {spec.dtype} has no gradient. Set "
            "requires_grad=False, or give it one of "
            f"{', '.join(sorted(TRAINABLE_DTYPES))}"
        )
    if policy.reduction == "fast" and spec.dtype in _DTYPES_WITHOUT_MPI_SUM:
        raise PlanError(
            f"parameter {spec.name!r}: MPI cannot sum {spec.dtype}, so reduction='fast'"
            " is not for it. Use reduction='canonical'"
        )


def check_names(specs: Iterable[ParamSpec]) -> None:
    """Refuse parameters that cannot be told apart, aliases included.

    Raises:
        PlanError: two parameters share a name.
    """
    first_names: dict[str, str] = {}
    for spec in specs:
        for name in spec.names:
            if name in first_names:
                raise PlanError(
                    f"two parameters are called {name!r}: {first_names[name]!r} and "
                    f"{spec.name!r}. Rename one; if it is one storage, describe it "
                    "once and list its further names as aliases"
                )
            first_names[name] = spec.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the runtime executes, for every rank at once.

    Make one with `make_plan`; equal plans have equal digests.

    Attributes:
        params: In declaration order.
        mesh: The names of the ranks.
        policy: What the user chose.
        buckets: In the order in which gradients become ready.
    """

    params: tuple[ParamSpec, ...]
    mesh: Mesh
    policy: Policy
    buckets: tuple[Bucket, ...]
    _places: dict[str, tuple[ParamSpec, Bucket, Extent]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        lies_in = {
            extent.name: (bucket, extent)
            for bucket in self.buckets
            for extent in bucket.extents
        }
        places = {
            name: (spec, *lies_in[spec.name])
            for spec in self.params
            for name in spec.names
        }
        object.__setattr__(self, "_places", places)

    @property
    def grains(self) -> int:
        """Number of grains: the leaves of the reduction tree, one per rank if fast."""
        return resolve_grains(self.mesh, self.policy)

    @property
    def grains_per_rank(self) -> int:
        """Consecutive grains that each rank computes."""
        return self.grains // self.mesh.size

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
        return self.policy.reduction == "canonical" and is_power_of_two

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, in hex: equal on all ranks or the plans differ."""
        from parallel_params.plan.codec import digest

        return digest(self)

    def spec(self, name: str) -> ParamSpec:
        """Return the parameter of a name or alias."""
        return self._place_of(name)[0]

    def bucket_of(self, name: str) -> Bucket:
        """Return the bucket of a parameter, by name or alias."""
        return self._place_of(name)[1]

    def extent_of(self, name: str) -> Extent:
        """Return where a parameter lies in its bucket, by name or alias."""
        return self._place_of(name)[2]

    def group(self, bucket: Bucket, rank: int) -> tuple[int, ...]:
        """Return the ranks that `bucket` is reduced over, as `rank` sees them."""
        return self.mesh.group(rank, bucket.axes)

    def group_size(self, bucket: Bucket) -> int:
        """Return how many ranks `bucket` is reduced over."""
        return self.mesh.group_size(bucket.axes)

    def intervals(self, bucket: Bucket) -> tuple[Interval, ...]:
        """Return what each position of the group owns of the buffer, in order."""
        return tuple(
            self.owned_at(bucket, position)
            for position in range(self.group_size(bucket))
        )

    def owned_at(self, bucket: Bucket, position: int) -> Interval:
        """Return what one position of the group owns of the buffer."""
        return bucket.owned(
            position, self.group_size(bucket), alignment=self.policy.alignment
        )

    def owned(self, bucket: Bucket, rank: int) -> Interval:
        """Return what `rank` owns of the buffer, at every level."""
        return self.owned_at(bucket, self.mesh.position(rank, bucket.axes))

    def held(self, bucket: Bucket, kind: Kind, rank: int) -> Interval:
        """Return what `rank` holds of `kind`: its own interval, or the whole buffer.

        Nothing, where the kind does not exist: gradients and state of frozen ones.
        """
        if kind is not Kind.WEIGHT and not bucket.is_trainable:
            return EMPTY
        if bucket.level.cuts(kind):
            return self.owned(bucket, rank)
        return Interval(0, bucket.numel)

    def collectives(self, rank: int) -> tuple[Collective, ...]:
        """Return the collectives of one step in the order `rank` issues them."""
        groups: dict[tuple[str, ...], tuple[int, ...]] = {}
        step = []
        for times, messages in announce_step(self, rank):
            for message in messages * times:
                axes = message.axes
                if axes not in groups:
                    groups[axes] = self.mesh.group(rank, axes)
                step.append(
                    Collective(
                        kind=message.kind,
                        purpose=message.purpose,
                        bucket=message.bucket,
                        group=groups[axes],
                        bytes_sent=message.bytes_sent,
                        bytes_received=message.bytes_received,
                    )
                )
        return tuple(step)

    def bytes_per_rank(self, rank: int) -> RankBytes:
        """Return what `rank` holds: each kind of storage, and work buffers."""
        return count_rank_bytes(self, rank)

    def describe(self, *, most_rows: int = 12) -> str:
        """Return a page for a person: who holds what, and what moves in a step.

        Args:
            most_rows: Rows of the table of buckets; the rest is summed up.
        """
        from parallel_params.plan.describe import describe

        return describe(self, most_rows=most_rows)

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

    def _place_of(self, name: str) -> tuple[ParamSpec, Bucket, Extent]:
        if name not in self._places:
            raise PlanError(
                f"the plan has no parameter {name!r}. "
                + did_you_mean(name, self._places)
            )
        return self._places[name]


def make_plan(specs: Iterable[ParamSpec], mesh: Mesh, policy: Policy) -> Plan:
    """Compute the plan of a model.

    Args:
        specs: Its parameters, in declaration order; tied ones once, with aliases.
        mesh: The ranks.
        policy: The user's choices.

    Raises:
        PlanError: parameters, mesh and policy contradict each other.

    Examples:
        >>> plan = make_plan([ParamSpec("w", (256, 256))], Mesh(data=4), Policy())
        >>> [str(interval) for interval in plan.intervals(plan.bucket_of("w"))][:2]
        ['[0, 16384)', '[16384, 32768)']
    """
    params = tuple(specs)
    check_names(params)
    check_grains(mesh, policy)
    placements = [place(spec, mesh=mesh, policy=policy) for spec in params]
    buckets = pack(params, placements, mesh=mesh, policy=policy)
    return Plan(params=params, mesh=mesh, policy=policy, buckets=buckets)
