"""The memory behind a bucket: one allocation per kind, parameters are views of it.

An arena belongs to one rank. It holds the weights of the bucket, the partial sums of
its gradient that canonical reduction asks for, and the interval of optimizer state that
this rank updates. It neither communicates nor updates anything.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from parallel_params.nn.parameter import Parameter
from parallel_params.optim.rule import state_dtype
from parallel_params.plan.bucket import Bucket
from parallel_params.plan.interval import Interval
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array


class Arena:
    """Weights, gradient partials and optimizer state of one bucket on one rank.

    Args:
        bucket: what lies where.
        parameters: by name; those of the bucket become views of the arena.
        num_partials: gradient buffers, 0 for a frozen bucket.
        updated: the interval whose state this rank holds.

    Attributes:
        weight: [bucket.numel] in the bucket's dtype.
        partials: `num_partials` arrays like `weight`.
        state: slot name -> [updated.numel] in the rule's state dtype, zeros at first.
        gradients: per partial, one view per extent in the parameter's shape.
    """

    def __init__(
        self,
        bucket: Bucket,
        parameters: Mapping[str, Parameter],
        *,
        num_partials: int,
        updated: Interval,
    ) -> None:
        dtype = dtype_named(bucket.dtype).numpy
        self.bucket = bucket
        self.updated = updated
        self.parameters = tuple(parameters[e.name] for e in bucket.extents)
        self.weight: Array = np.empty(bucket.numel, dtype)
        self.partials = tuple(
            np.zeros(bucket.numel, dtype) for _ in range(num_partials)
        )
        self.state: dict[str, Array] = {
            slot: np.zeros(updated.numel, state_dtype(dtype))
            for slot in bucket.state_slots
        }
        for parameter, view in zip(
            self.parameters, self._views(self.weight), strict=True
        ):
            parameter.rebind(view)
        self.gradients: tuple[Sequence[Array], ...] = tuple(
            self._views(partial) for partial in self.partials
        )

    def load_state(self, values: Mapping[str, Mapping[str, Array]]) -> None:
        """Copy this rank's interval of optimizer state that exists already.

        Args:
            values: slot -> parameter name -> array in the parameter's shape.
        """
        for slot, target in self.state.items():
            known = values.get(slot, {})
            for extent in self.bucket.extents:
                part = extent.interval.intersect(self.updated)
                if extent.name in known and not part.is_empty:
                    source = known[extent.name].reshape(-1)
                    target[part.shift(-self.updated.start).as_slice()] = source[
                        part.shift(-extent.interval.start).as_slice()
                    ]

    def _views(self, flat: Array) -> Sequence[Array]:
        return [
            flat[extent.interval.as_slice()].reshape(parameter.shape)
            for extent, parameter in zip(
                self.bucket.extents, self.parameters, strict=True
            )
        ]
