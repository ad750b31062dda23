"""One bucket at run time: reduce its gradient, update what is this rank's, publish.

The plan says what is sharded; here that is only the choice between two orders of the
same steps. Ranks issue buckets in plan order.
"""

from collections.abc import Sequence

import numpy as np

from parallel_params.runtime.arena import Arena
from parallel_params.runtime.reducer import Reducer
from parallel_params.runtime.stepper import Stepper


class BucketExchange:
    """Executes a trainable bucket.

    Args:
        arena: its memory on this rank.
        reducer: its group's communication; None for a group of one rank.
        stepper: updates `arena.updated`.
        is_sharded: whether the owners update and publish, or everyone updates all.
        scale: factor on the gradient before it is reduced; not 1 only for parameters
            which fewer ranks share than the mean is taken over.
    """

    def __init__(
        self,
        arena: Arena,
        reducer: Reducer | None,
        stepper: Stepper,
        *,
        is_sharded: bool,
        scale: float,
    ) -> None:
        self.arena = arena
        self._reducer = reducer
        self._stepper = stepper
        self._is_sharded = is_sharded
        self._scale = scale

    def run(self, *, step: int, rates: Sequence[float]) -> None:
        """Turn the rank's gradient in partial 0 into updated weights.

        Args:
            step: 1 for the first step.
            rates: learning rate per group of the optimizer.

        Collective: every rank of the bucket's group, buckets in plan order.
        """
        partial = self.arena.partials[0]
        if self._scale != 1.0:
            np.multiply(partial, np.asarray(self._scale, partial.dtype), out=partial)
        if self._reducer is None:
            self._stepper.apply(partial, step=step, rates=rates)
        elif self._is_sharded:
            owned = self._reducer.reduce_owned(partial)
            self._stepper.apply(owned, step=step, rates=rates)
            self._reducer.gather(self.arena.weight)
        else:
            self._reducer.reduce_whole(partial)
            self._stepper.apply(partial, step=step, rates=rates)
