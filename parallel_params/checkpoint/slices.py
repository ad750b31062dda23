"""Layerwise-parallel parameters at another number of slices: cut anew, or by a policy.

Slices of one tensor (`slice_dim`) are cut anew, whatever was asked for. What else is
each rank's own cannot be right for fewer or more of them, so the caller has to say what
they get.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from parallel_params.checkpoint.manifest import Manifest, Stored
from parallel_params.checkpoint.sources import Averaged, Copied, Recut, Source
from parallel_params.checkpoint.tensors import Described
from parallel_params.errors import CheckpointError, CheckpointMismatch, PlanError
from parallel_params.plan.codec import decode
from parallel_params.plan.text import plural

Layerwise: TypeAlias = str | int | Mapping[int, int]
"""What a layerwise-parallel parameter gets if the number of its slices has changed,
and they are no slices of one tensor: `fail`, `from_rank:K` (what rank K had that
saved), `mean`, `by_key` (the saved slice of the same number); or the number of a saved
slice, or a mapping of new to saved ones."""

PATTERN = r"fail|mean|by_key|from_rank(:[0-9]{1,9})?"


class Choice(NamedTuple):
    """A policy, read.

    Attributes:
        kind: `fail`, `mean`, `by_key`, `from_rank`, or `slice`.
        number: of the rank or slice.
        chosen: by number of a slice here, that of a saved one.
    """

    kind: str
    number: int = 0
    chosen: Mapping[int, int] | None = None


def read_choice(given: Layerwise) -> Choice:
    """Read a policy.

    Raises:
        CheckpointError: it is none.
    """
    if isinstance(given, str) and re.fullmatch(PATTERN, given):
        kind, _, number = given.partition(":")
        return Choice(kind, int(number or 0))
    if isinstance(given, int) and not isinstance(given, bool):
        return Choice("slice", given)
    if isinstance(given, Mapping) and all(
        type(number) is int for pair in given.items() for number in pair
    ):
        return Choice("by_key", chosen=given)
    raise CheckpointError(
        "layerwise: expected fail, from_rank:K, mean, by_key, the number of a slice, "
        f"or a mapping such as {{0: 1}}, got {given!r}"
    )


def slices_of(manifest: Manifest, first: Stored) -> list[Stored]:
    """Return all slices of a parameter or state, in order.

    Raises:
        CheckpointMismatch: they are not all there, or not alike.
    """
    # Not more than there can be, whatever a manifest says.
    number = min(first.num_slices, len(manifest.tensors) + 1)
    keys = [first.key._replace(slice_index=index) for index in range(number)]
    found = [manifest.find(key) for key in keys]
    slices = [each for each in found if each is not None]
    if len(slices) < len(keys) or any(
        (each.shape, each.dtype, each.slice_dim)
        != (first.shape, first.dtype, first.slice_dim)
        for each in slices
    ):
        raise CheckpointMismatch(
            f"of {first.key} there are {len(slices)} of {first.num_slices} slices, or "
            "not all of them of one shape and type"
        )
    return slices


def find_cut(slices: Sequence[Stored], wanted: Described) -> Recut | None:
    """Return how a wanted slice lies in the tensor that saved slices make, if it does.

    Args:
        slices: all that were saved, in order.
        wanted: one of other slices of the same tensor, or all of it.
    """
    first, num_wanted = slices[0], wanted.num_slices
    dims = {first.slice_dim, wanted.slice_dim} - {None}
    if len(dims) != 1 or len(slices) == num_wanted:
        return None
    (dim,) = dims
    if dim is None or not dim < min(len(first.shape), len(wanted.shape)):
        return None
    for number, own_dim in (
        (len(slices), first.slice_dim),
        (num_wanted, wanted.slice_dim),
    ):
        if number > 1 and own_dim is None:  # each rank's own
            return None
    whole, whole_here = list(first.shape), list(wanted.shape)
    whole[dim] *= len(slices)
    whole_here[dim] *= num_wanted
    if whole != whole_here:
        return None
    start = wanted.key.slice_index * wanted.shape[dim]
    return Recut(slices=tuple(slices), dim=dim, start=start, shape=wanted.shape)


def find_average(slices: Sequence[Stored], wanted: Described) -> Averaged | None:
    """Return the average over a slice that several saved ones make together.

    They are equally long, so it is the average of their averages. What a part of a
    slice would have had on its own nobody knows.

    Args:
        slices: all that were saved, in order, of a parameter that is cut anew.
        wanted: an average over one of its slices here.
    """
    most, rest = divmod(len(slices), wanted.num_slices)
    if not wanted.is_average or rest or most < 2:
        return None
    first = wanted.key.slice_index * most
    return Averaged(tuple(slices[first : first + most]))


def why_not_cut(slices: Sequence[Stored], wanted: Described) -> str:
    """Say why state of a parameter that is cut anew has no part for its new slices."""
    what = (
        f"it has {wanted.key._replace(slice_index=0)} of {len(slices)} slices, and "
        f"here are {wanted.num_slices}. "
    )
    if wanted.is_average:
        return (
            f"{what}It is an average over each slice, and those over smaller or other "
            "slices do not follow from it. Load with layerwise='mean', 'from_rank:K' "
            "or 'by_key', which say what they begin with; with weights_only=True; or "
            f"where the number of slices divides {len(slices)}"
        )
    return (
        f"{what}A whole slice went into every number of it, so it cannot be cut. Load "
        "with weights_only=True, or on a mesh of as many slices"
    )


def choose(
    slices: Sequence[Stored],
    wanted: Described,
    choice: Choice,
    manifest: Manifest,
    where: str,
) -> Source:
    """Return what a slice gets that is each rank's own.

    Args:
        slices: all that were saved, in order.
        wanted: the slice that is filled.
        choice: the policy.
        manifest: of the checkpoint.
        where: its name in errors.

    Raises:
        CheckpointMismatch: the policy is to fail, or names what was not saved.
    """
    index, num_saved = wanted.key.slice_index, len(slices)
    is_own = slices[0].slice_dim is None
    is_told = choice.chosen is not None and num_saved > 1 and is_own
    if num_saved == wanted.num_slices and not is_told:
        return Copied(slices[index])
    if choice.kind == "mean":
        return Averaged(tuple(slices)) if num_saved > 1 else Copied(slices[0])
    what = (
        f"{where} has {plural(num_saved, 'slice')} of shape {slices[0].shape} of "
        f"{wanted.key._replace(slice_index=0)}, and here "
        f"{'is' if wanted.num_slices == 1 else 'are'} {wanted.num_slices} of shape "
        f"{wanted.shape}"
    )
    if choice.kind == "fail":
        raise CheckpointMismatch(
            f"{what}. They are each rank's own (layerwise_parallel), not slices of one "
            "tensor (slice_dim), so nothing is right for all. Load with layerwise="
            "'from_rank:K', 'mean' or 'by_key', or {0: 1, ...} for a saved slice each"
        )
    number: int | None = choice.number
    if choice.chosen is not None:
        number = choice.chosen.get(index)
    elif choice.kind == "by_key":
        number = index
    elif choice.kind == "from_rank":
        number = _slice_of(choice.number, manifest, what)
    if number is None or not 0 <= number < num_saved:
        raise CheckpointMismatch(
            f"{what}; layerwise gives slice {index} the saved slice {number}, and "
            f"there are 0 to {num_saved - 1}"
        )
    return Copied(slices[number])


def _slice_of(rank: int, manifest: Manifest, what: str) -> int:
    """Return which slice a rank had that saved."""
    try:
        mesh = decode(dict(manifest.plan)).mesh
    except PlanError:  # imported, or of another version: one rank, one slice
        return rank
    if rank >= mesh.size:
        raise CheckpointMismatch(
            f"{what}; layerwise='from_rank:{rank}', and {mesh.size} ranks have saved"
        )
    if mesh.layerwise_axis is None:
        return 0
    return mesh.position(rank, (mesh.layerwise_axis,))
