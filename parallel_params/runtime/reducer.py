"""Gradients in, reduced gradients out: the communication of one bucket.

Canonical reduction sends every owner its interval of everybody's partial sum and adds
them there in the order of `runtime/tree.py`. Fast reduction leaves the order to MPI.
The reducer does not know what a gradient is used for, and scales nothing.
"""

import numpy as np

from parallel_params.comm.protocol import Communicator
from parallel_params.plan.interval import Interval
from parallel_params.runtime.tree import tree_sum_rows
from parallel_params.tensor.tape import Array


class Reducer:
    """Sums one flat buffer over a group of ranks.

    Args:
        comm: the group.
        intervals: what each rank of the group owns, in its order; they cover the
            buffer.
        memory: bytes to receive in, at least what the plan counts for this bucket;
            shared by all reducers of a rank, which use it in turn.
        dtype: of the buffer.
        is_canonical: whether the order of the sum is fixed.
    """

    def __init__(
        self,
        comm: Communicator,
        intervals: tuple[Interval, ...],
        memory: Array,
        *,
        dtype: "np.dtype[np.generic]",
        is_canonical: bool,
    ) -> None:
        self._comm = comm
        self._counts = tuple(interval.numel for interval in intervals)
        self._owned = intervals[comm.rank].as_slice()
        own = self._counts[comm.rank]
        self._is_canonical = is_canonical
        rows = comm.size if is_canonical else 1
        num_bytes = rows * own * dtype.itemsize
        self._received: Array = memory[:num_bytes].view(dtype).reshape(rows, own)
        self._received_counts = (own,) * comm.size

    def reduce_owned(self, buffer: Array) -> Array:
        """Return the sum of this rank's interval over all ranks of the group.

        Args:
            buffer: [numel] this rank's summand; it is only read.

        Returns:
            [owned numel], a view of `memory`, valid until the next reduction.

        Collective: every rank of the group, buckets in plan order.
        """
        if self._is_canonical:
            received = self._received.reshape(-1)
            self._comm.all_to_all(buffer, self._counts, received, self._received_counts)
            return tree_sum_rows(self._received)
        total: Array = self._received[0]
        self._comm.reduce_scatter(buffer, self._counts, total)
        return total

    def reduce_whole(self, buffer: Array) -> None:
        """Replace `buffer` [numel] by its sum over all ranks of the group.

        Collective: every rank of the group, buckets in plan order.
        """
        np.copyto(buffer[self._owned], self.reduce_owned(buffer))
        self.gather(buffer)

    def gather(self, buffer: Array) -> None:
        """Fill `buffer` [numel] with every rank's owned interval of it.

        Collective: every rank of the group, buckets in plan order.
        """
        self._comm.all_gather(buffer, self._counts)
