"""The message in front of every step: the losses, and whether a rank gave up.

A rank whose loss function raised still takes part in this one exchange, so that all
ranks raise together and none waits for gradients that will not come.
"""

import numpy as np

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.protocol import Communicator
from parallel_params.runtime.tree import tree_sum


class Status:
    """Exchanges 16 bytes per rank in front of the gradients of a step.

    Args:
        comm: all ranks of the plan.
    """

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm
        self._messages = np.zeros((comm.size, 2))

    def exchange(self, loss: float, error: Exception | None) -> float:
        """Return the sum of the ranks' losses in the order of the tree.

        Args:
            loss: this rank's sum over its grains.
            error: what this rank's forward or backward pass raised, or None.

        Raises:
            RankFailed: a rank had an error; on a rank with one it is the cause. In a
                world of one the error itself is raised.

        Collective: all ranks, in front of the buckets.
        """
        if self._comm.size == 1:
            if error is not None:
                raise error
            return loss
        messages = self._messages
        messages[self._comm.rank] = loss, float(error is not None)
        self._comm.all_gather(messages.reshape(-1), (2,) * self._comm.size)
        if messages[:, 1].any():
            agree_ok(self._comm, error)
        return tree_sum(messages[:, 0].tolist())
