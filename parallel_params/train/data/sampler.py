"""In which order samples come: a function of seed, epoch and position, of nothing else.

There is one cursor for the whole world, counted in samples since the start of training.
Neither ranks nor batches shape the order, so a run goes on at any world size with the
samples it would have seen. Nothing here touches the samples themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.random import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which consecutive part of each batch is meant: part `index` of `count`.

    Raises:
        ValueError: no part of that index exists.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"there is no part {self.index} of {self.count}")


WHOLE = Share(index=0, count=1)


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Give the order of one epoch: [num_samples] each sample once.

    Sorts raw random words and does not ask for `Generator.permutation`, whose bits
    NumPy promises for one of its versions only.
    """
    words = Stream((seed, "order", epoch)).words(0, num_samples)
    return np.argsort(words, kind="stable").astype(np.int64)


class Sampler:
    """Gives the samples of any batch; remembers the orders of two epochs, no position.

    Raises:
        ValueError: there are no samples.
    """

    def __init__(self, num_samples: int, *, seed: int) -> None:
        if num_samples < 1:
            raise ValueError("there are no samples to take an order of")
        self._num_samples = num_samples
        self._seed = seed
        self._orders: dict[int, NDArray[np.int64]] = {}

    def batch(
        self, cursor: int, batch_size: int, share: Share = WHOLE
    ) -> NDArray[np.int64]:
        """Give the samples of this share of the batch that starts at `cursor`.

        A batch that reaches the end of an epoch goes on in the next, so all are full.

        Args:
            cursor: samples taken by the whole world before this batch.
            batch_size: samples of the whole world in this batch.
            share: which part of them; consecutive, so that grains are too.

        Returns:
            [batch_size // share.count] indices of samples.

        Raises:
            ValueError: `share.count` does not divide `batch_size`.
        """
        if batch_size % share.count:
            raise ValueError(
                f"{batch_size} samples cannot be cut into {share.count} equal shares"
            )
        length = batch_size // share.count
        start = cursor + share.index * length
        picked = np.empty(length, dtype=np.int64)
        filled = 0
        while filled < length:
            epoch, position = divmod(start + filled, self._num_samples)
            part = self._order(epoch)[position : position + length - filled]
            picked[filled : filled + len(part)] = part
            filled += len(part)
        return picked

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            self._orders = {
                known: order
                for known, order in self._orders.items()
                if known == epoch - 1
            }
            self._orders[epoch] = epoch_order(
                self._num_samples, seed=self._seed, epoch=epoch
            )
        return self._orders[epoch]
