"""Which tensors a plan's training state consists of, and which rank saves what.

Every element of every tensor is saved by exactly one rank: its owner. Follows from the
plan alone; no arrays, no files.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from parallel_params.checkpoint.manifest import Key
from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind
from parallel_params.plan.spec import MASTER_WEIGHT

# Of rules that move whole matrices: what is nevertheless of each element alone, which
# are averages of the gradient (Muon's, SOAP's).
_BY_ELEMENT = frozenset({"", MASTER_WEIGHT, "momentum_buffer", "exp_avg"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One tensor of a training state.

    Attributes:
        key: which.
        num_slices: of its parameter.
        dtype: NumPy's name, or `bfloat16`.
        shape: of one slice.
        aliases: further names of the parameter, for a weight.
        slice_dim: along which its slices are those of one tensor, if they are.
        is_average: over the other dims of the parameter's slice, as Adafactor's.
    """

    key: Key
    num_slices: int
    dtype: str
    shape: tuple[int, ...]
    aliases: tuple[str, ...] = ()
    slice_dim: int | None = None
    is_average: bool = False


def num_slices(plan: Plan, bucket: Bucket) -> int:
    """Return how many different values there are of a bucket's parameters."""
    return plan.mesh.size // plan.group_size(bucket)


def tensors_of(plan: Plan) -> list[Described]:
    """Return all tensors of a plan, weights first, in the order of the files.

    What one rank owns of a bucket then lies together. Wide elements come first, so that
    every tensor starts at a multiple of its element.
    """
    buckets = sorted(plan.buckets, key=lambda bucket: -bucket.item_bytes)
    weights = [
        _describe(plan, bucket, extent, "", index)
        for bucket in buckets
        for index in range(num_slices(plan, bucket))
        for extent in bucket.extents
    ]
    trained = [bucket for bucket in plan.buckets if bucket.is_trainable]
    trained.sort(key=lambda bucket: -bucket.item_bytes_of(Kind.STATE))
    states = [
        _describe(plan, bucket, extent, slot, index)
        for bucket in trained
        for index in range(num_slices(plan, bucket))
        for slot in bucket.slots
        for extent in bucket.extents
        # Nobody keeps rows and columns of what has no elements.
        if not extent.interval.is_empty or slot in bucket.state_slots
    ]
    return weights + states


def _describe(
    plan: Plan, bucket: Bucket, extent: Extent, slot: str, index: int
) -> Described:
    spec = plan.spec(extent.name)
    shape, dtype, dim = spec.shape, spec.dtype, spec.slice_dim
    if slot in bucket.row_slots:
        shape, dim = shape[:1], 0 if dim == 0 else None
    elif slot in bucket.column_slots:
        shape, dim = shape[1:], dim - 1 if dim else None
    elif bucket.structure == "matrix" and slot not in _BY_ELEMENT:
        dim = None  # a whole matrix went into it
    if slot and dtype != "float64":
        dtype = "float32"  # what rules compute in, see `optim.rule.state_dtype`
    return Described(
        key=Key(extent.name, slot, index),
        num_slices=num_slices(plan, bucket),
        dtype=dtype,
        shape=shape,
        aliases=() if slot else spec.aliases,
        slice_dim=dim,
        is_average=slot in (*bucket.row_slots, *bucket.column_slots),
    )


def has_own_rows(bucket: Bucket, slot: str) -> bool:
    """Tell whether a row of a weight has that of a state, whatever the other rows are.

    Args:
        bucket: of the weight.
        slot: of the state; empty for the weight itself.
    """
    if bucket.structure == "matrix" and slot not in _BY_ELEMENT:
        return False
    return slot not in bucket.column_slots


def saved_by(plan: Plan, rank: int) -> Iterator[tuple[Key, Interval]]:
    """Yield what a rank saves: which elements of which tensors."""
    for bucket in plan.buckets:
        own = plan.owned(bucket, rank)
        index = plan.mesh.slice_index(rank, bucket.axes)
        for extent, part in bucket.parts_within(own):
            inside = part.shift(-extent.interval.start)
            yield Key(extent.name, "", index), inside
            for slot in bucket.state_slots:
                yield Key(extent.name, slot, index), inside
            for slot in bucket.row_slots:
                rows = inside.start // extent.row_numel, inside.stop // extent.row_numel
                yield Key(extent.name, slot, index), Interval(*rows)
            # Whole with everyone who has a part; the owner of the first saves it.
            for slot in bucket.column_slots if inside.start == 0 else ():
                yield Key(extent.name, slot, index), Interval(0, extent.row_numel)
