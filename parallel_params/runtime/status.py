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
from parallel_params.runtime.tree import tree_sum

Call: TypeAlias = Literal["step", "value_and_grad", "update"]

_NUMBERS: dict[Call, int] = {"step": 1, "value_and_grad": 2, "update": 3}
_FAILED = -1.0


class Status:
    """Exchanges 16 bytes per rank in front of the gradients of a step.

    Args:
        comm: all ranks of the plan.
    """

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm
        self._messages = np.zeros((comm.size, 2))

    def exchange(
        self,
        loss: float,
        error: Exception | None,
        *,
        call: Call,
        step: int,
        rates: Sequence[float],
        lengths: Sequence[int] = (),
    ) -> float:
        """Return the sum of the ranks' losses in the order of the tree.

        Args:
            loss: this rank's sum over its grains.
            error: what this rank's forward or backward pass raised, or None.
            call: the method of the manager that this rank is in.
            step: steps taken so far.
            rates: the learning rates about to be used, none without an update.
            lengths: of this rank's share of every member of the batch.

        Raises:
            RankFailed: a rank had an error; on a rank with one it is the cause. In a
                world of one the error itself is raised.
            PlanMismatch: the ranks are in different calls or steps, would use
                different learning rates, or have shares of different lengths, whose
                mean would not be the mean over the batch.

        Collective: all ranks, in front of the buckets.
        """
        if self._comm.size == 1:
            if error is not None:
                raise error
            return loss
        # 32 bits of what this rank is about to do; exact in the float that is sent.
        numbers = struct.pack(
            f"<{2 + len(lengths)}q{len(rates)}d",
            _NUMBERS[call],
            step,
            *lengths,
            *rates,
        )
        mark = float(zlib.crc32(numbers)) if error is None else _FAILED
        messages = self._messages
        messages[self._comm.rank] = loss, mark
        self._comm.all_gather(messages.reshape(-1), (2,) * self._comm.size)
        marks = messages[:, 1].tolist()
        if mark == _FAILED or marks.count(mark) < len(marks):
            agree_ok(self._comm, error)
            self._raise_mismatch(
                f"manager.{call}(...)",
                f"{step} steps taken",
                f"learning rates {[*rates]}",
                f"shares of {[*lengths]} samples",
            )
        return tree_sum(messages[:, 0].tolist())

    def _raise_mismatch(self, *facts: str) -> None:
        difference = first_difference(self._comm, facts)
        raise PlanMismatch(
            f"the ranks are not taking the same step: {difference}. Call the same "
            "methods in the same order, with the same learning rates and equally long "
            "shares of the batch, on every rank."
        )
