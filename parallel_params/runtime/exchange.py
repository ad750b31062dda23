"""One bucket at run time: reduce its gradient, update what is this rank's, publish.

The plan says what is sharded; here that is only the choice between two orders of the
same steps. Ranks issue buckets in plan order.
"""

from collections.abc import Sequence

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
        scale: factor on the reduced gradient; not 1 only for parameters that fewer
            ranks share than the mean is taken over.
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

    def run(self, *, step: int, rates: Sequence[float], gradient_scale: float) -> None:
        """Turn the rank's gradient in partial 0 into updated weights.

        Args:
            step: 1 for the first step.
            rates: learning rate per group of the optimizer.
            gradient_scale: factor on the sum of all ranks' gradients.

        Collective: every rank of the bucket's group, buckets in plan order.
        """
        gradient = self.arena.partials[0]
        if self._reducer is not None:
            if self._is_sharded:
                gradient = self._reducer.reduce_owned(gradient)
            else:
                self._reducer.reduce_whole(gradient)
        self._stepper.apply(
            gradient,
            step=step,
            rates=rates,
            gradient_scale=gradient_scale * self._scale,
        )
        if self._reducer is not None and self._is_sharded:
            self._reducer.gather(self.arena.weight)
