"""Cut a rank's share of the batch into grains, and weigh what they come to.

A batch is cut in halves, the halves in halves: a rank's share of a batch and the grains
of that share are then the same pieces at every world size that is a power of two, also
where the number of samples is not. Grains without samples weigh nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from parallel_params.tensor.tensor import Tensor


class Grain(NamedTuple):
    """One slice of every member of a batch.

    Attributes:
        members: as tensors.
        num_samples: along dim 0; 1 for a batch without arrays of a dim.
    """

    members: tuple[Tensor, ...]
    num_samples: int


NO_SAMPLES = Grain((), 0)


def split_evenly(num_samples: int, num_parts: int) -> list[int]:
    """Return how many samples each part gets: halves, halves of halves, and so on.

    Examples:
        >>> split_evenly(7, 4), split_evenly(7, 2)
        ([1, 2, 2, 2], [3, 4])
    """
    if num_parts == 1:
        return [num_samples]
    left_parts = num_parts // 2
    left = num_samples * left_parts // num_parts
    return [
        *split_evenly(left, left_parts),
        *split_evenly(num_samples - left, num_parts - left_parts),
    ]


def cut_batch(batch: Sequence[object], num_grains: int) -> list[Grain]:
    """Cut every member of the batch into `num_grains` slices along dim 0.

    Raises:
        TypeError: a member is neither an array nor a tensor.
        ValueError: the lengths differ, or there is nothing to cut.
    """
    tensors = tuple([_as_tensor(member) for member in batch])
    arrays = [tensor._array for tensor in tensors]
    if num_grains == 1:
        lengths = {array.shape[0] for array in arrays if array.ndim}
        if len(lengths) > 1:
            shapes = ", ".join(str(a.shape) for a in arrays)
            raise ValueError(
                "the members of a batch must have one length along dim 0, the number "
                f"of its samples; their shapes are {shapes}. Bind what is no sample to "
                "the loss function"
            )
        return [Grain(tensors, lengths.pop() if lengths else 1)]
    found = {len(a) if a.ndim else -1 for a in arrays}
    if len(found) != 1 or -1 in found:
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise ValueError(
            f"the members of a batch must have one length along dim 0 to be cut into "
            f"{num_grains} grains; their shapes are {shapes or 'none: it is empty'}"
        )
    (length,) = found
    grains, start = [], 0
    for count in split_evenly(length, num_grains):
        part = slice(start, start + count)
        grains.append(Grain(tuple(Tensor.wrap(a[part]) for a in arrays), count))
        start += count
    return grains


def split_loss(returned: object, num_samples: int) -> tuple[Tensor, float]:
    """Return the mean loss of a grain and what it is a mean of.

    Args:
        returned: by the loss function: a loss, or a pair of a loss and its weight.
        num_samples: the weight of a loss without one.

    Raises:
        TypeError: it is neither.
        ValueError: a weight that is negative or no finite number.
    """
    weight = float(num_samples)
    if isinstance(returned, tuple) and len(returned) == 2:
        returned, given = returned
        weight = float(given.item() if isinstance(given, Tensor) else given)
        if not 0 <= weight < float("inf"):
            raise ValueError(f"the weight of a loss is 0 or more, not {weight}")
    if not isinstance(returned, Tensor):
        raise TypeError(
            f"the loss function returned {type(returned).__name__}, not a Tensor"
        )
    array = returned._array
    if array.size != 1 or (array.dtype.kind != "f" and not returned.dtype.is_float):
        raise TypeError(
            f"the loss must be one floating-point number, the mean over its grain; "
            f"got shape {returned.shape}, dtype {returned.dtype}"
        )
    return returned, weight


def _as_tensor(member: object) -> Tensor:
    if isinstance(member, Tensor):
        return member
    if isinstance(member, np.ndarray):
        return Tensor.wrap(member)
    raise TypeError(
        f"a batch is made of arrays and tensors, not of {type(member).__name__}; "
        f"bind other arguments to the loss function"
    )
