"""The message in front of every step: losses, who gave up, and what each rank is doing.

A rank whose loss function raised still takes part in this one exchange, so that all
ranks raise together and none waits for gradients that will not come. The same message
shows whether all ranks take the same step: a rank that goes its own way would train
something else, or wait for ever.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from parallel_params.comm.agree import agree_ok, first_difference
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanMismatch
from parallel_params.runtime.backward import Total
from parallel_params.runtime.tree import tree_sum

Call: TypeAlias = Literal["step", "value_and_grad", "update", "accumulate"]

_NUMBERS: dict[Call, int] = {
    "step": 1,
    "value_and_grad": 2,
    "update": 3,
    "accumulate": 4,
}
_FAILED = -1.0


class Status:
    """Exchanges 24 bytes per rank in front of the update of a step.

    Args:
        comm: all ranks of the plan.
    """

    def __init__(self, comm: Communicator) -> None:
        self._comm, self._is_alone = comm, comm.size == 1
        self._messages = np.zeros((comm.size, 3))

    def exchange(
        self,
        own: Total,
        error: Exception | None,
        *,
        call: Call,
        step: int,
        rates: Sequence[Sequence[float]],
    ) -> Total:
        """Return the sums of the ranks' losses and weights in the order of the tree.

        Args:
            own: this rank's, over its grains.
            error: what this rank's forward or backward pass raised, or None.
            call: the method of the manager that this rank is in.
            step: steps taken so far.
            rates: the learning rates about to be used, per optimizer and group; none
                without an update.

        Raises:
            RankFailed: a rank had an error; on a rank with one it is the cause. In a
                world of one the error itself is raised.
            PlanMismatch: the ranks are in different calls or steps, or would use
                different learning rates.

        Collective: all ranks, in front of the buckets.
        """
        if self._is_alone:
            if error is not None:
                raise error
            return own
        # 32 bits of what this rank is about to do; exact in the float that is sent.
        flat = [rate for group in rates for rate in group]
        numbers = struct.pack(f"<2q{len(flat)}d", _NUMBERS[call], step, *flat)
        mark = float(zlib.crc32(numbers)) if error is None else _FAILED
        messages = self._messages
        messages[self._comm.rank] = own.loss, own.weight, mark
        self._comm.all_gather(messages.reshape(-1), (3,) * self._comm.size)
        marks = messages[:, 2].tolist()
        if mark == _FAILED or marks.count(mark) < len(marks):
            agree_ok(self._comm, error)
            self._raise_mismatch(
                f"manager.{call}(...)",
                f"{step} steps taken",
                f"learning rates {flat}",
            )
        losses, weights = messages[:, 0].tolist(), messages[:, 1].tolist()
        return Total(tree_sum(losses), tree_sum(weights))

    def _raise_mismatch(self, *facts: str) -> None:
        difference = first_difference(self._comm, facts)
        raise PlanMismatch(
            f"the ranks are not taking the same step: {difference}. Call the same "
            "methods in the same order, with the same learning rates, on every rank."
        )
