"""Forward and backward over the grains of one rank, gradients straight into the arenas.

Each grain is a slice of the rank's share of the batch and runs by itself, so that every
matrix product has the shape it has at any world size. What is left afterwards is the
sum of the rank's grains in partial 0 of every arena. Nothing here communicates.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from parallel_params.runtime.arena import Arena
from parallel_params.runtime.tree import GrainSum, tree_sum
from parallel_params.tensor import random
from parallel_params.tensor.frame import Frame
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

LossFunction: TypeAlias = Callable[..., Tensor]


class Backward:
    """Computes one rank's gradients.

    Args:
        arenas: of the trainable buckets, in plan order.
        num_grains: of this rank.
        first_grain: position of this rank's first grain in the global batch.

    Attributes:
        num_absent: by parameter name, in how many grains no gradient arrived so far.
    """

    def __init__(
        self, arenas: Sequence[Arena], *, num_grains: int, first_grain: int
    ) -> None:
        self._first_grain = first_grain
        self._arenas = arenas
        self._num_grains = num_grains
        self._parameters = [p for arena in arenas for p in arena.parameters]
        self._names = [e.name for arena in arenas for e in arena.bucket.extents]
        num_partials = len(arenas[0].partials) if arenas else 1
        self._sinks = [
            [sink for arena in arenas for sink in arena.gradients[slot]]
            for slot in range(num_partials)
        ]
        self.num_absent: dict[str, int] = {}

    def run(
        self,
        loss_fn: LossFunction,
        batch: Sequence[object],
        *,
        weight: float,
        scope: tuple[random.Key, ...],
    ) -> float:
        """Leave the weighted sum of the grains' gradients in partial 0 of the arenas.

        Args:
            loss_fn: called with a grain of each member of `batch`; returns the mean
                loss over the grain.
            batch: this rank's share: arrays or tensors of one length along dim 0.
            weight: of each grain's loss; 1 / number of all grains for a global mean.
            scope: names the step to the random streams.

        Returns:
            The sum of the grains' losses, unweighted, in the order of the tree.

        Raises:
            ValueError: the batch cannot be cut into grains.
            TypeError: the loss is no floating-point scalar, or a member of the batch is
                no array.
        """
        grains = cut_batch(batch, self._num_grains)
        losses: list[float] = []
        total = GrainSum(self._add_partials)
        for position, grain in enumerate(grains):
            with random.scope(*scope, "grain", self._first_grain + position):
                losses.append(self._run_grain(loss_fn, grain, total.slot, weight))
            total.close()
        total.finish()
        return tree_sum(losses)

    def _run_grain(
        self,
        loss_fn: LossFunction,
        grain: Sequence[Tensor],
        slot: int,
        weight: float,
    ) -> float:
        sinks = self._sinks[slot]
        with Frame(self._parameters, sinks) as frame:
            loss = loss_fn(*grain)
            value = _checked_loss(loss)
            seed = Tensor.wrap(
                np.asarray(weight, dtype=value.dtype).reshape(value.shape)
            )
            arrived = frame.sweep(loss, seed)
        for i, gradient in enumerate(arrived):
            if gradient is None:
                sinks[i].fill(0)
                name = self._names[i]
                self.num_absent[name] = self.num_absent.get(name, 0) + 1
        return float(value.reshape(()))

    def _add_partials(self, target: int, source: int) -> None:
        for arena in self._arenas:
            np.add(
                arena.partials[target],
                arena.partials[source],
                out=arena.partials[target],
            )


def cut_batch(batch: Sequence[object], num_grains: int) -> Sequence[Sequence[Tensor]]:
    """Cut every member of the batch into `num_grains` equal slices along dim 0.

    Raises:
        TypeError: a member is neither an array nor a tensor.
        ValueError: the lengths differ, or the grains do not divide them.
    """
    if num_grains == 1:
        return [[_as_tensor(member) for member in batch]]
    arrays = [_as_tensor(member)._array for member in batch]
    lengths = {len(a) if a.ndim else 0 for a in arrays}
    if len(lengths) != 1:
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise ValueError(
            f"the members of a batch must have one length along dim 0 to be cut into "
            f"{num_grains} grains; their shapes are {shapes or 'none: it is empty'}"
        )
    (length,) = lengths
    if length % num_grains or not length:
        raise ValueError(
            f"this rank's share of the batch has {length} samples, which its "
            f"{num_grains} grains do not divide; pass a multiple of {num_grains}"
        )
    step = length // num_grains
    return [
        [Tensor.wrap(a[start : start + step]) for a in arrays]
        for start in range(0, length, step)
    ]


def share_lengths(batch: Sequence[object]) -> tuple[int, ...]:
    """Return the length along dim 0 of every member of a batch that has one."""
    shapes = [
        member.shape for member in batch if isinstance(member, Tensor | np.ndarray)
    ]
    return tuple([shape[0] for shape in shapes if shape])


def _as_tensor(member: object) -> Tensor:
    if isinstance(member, Tensor):
        return member
    if isinstance(member, np.ndarray):
        return Tensor.wrap(member)
    raise TypeError(
        f"a batch is made of arrays and tensors, not of {type(member).__name__}; "
        f"bind other arguments to the loss function"
    )


def _checked_loss(loss: object) -> Array:
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"the loss function returned {type(loss).__name__}, not a Tensor"
        )
    if loss.size != 1 or not loss.dtype.is_float:
        raise TypeError(
            f"the loss must be one floating-point number, the mean over its grain; "
            f"got shape {loss.shape}, dtype {loss.dtype}"
        )
    return loss._array
