"""A rank's share of each batch: samples picked in order, pictures moved if asked.

Everything is a function of the cursor, so there is no position to save but that.
"""

import numpy as np
from numpy.typing import NDArray

from parallel_params.train.config.job import DigitsData, Job, NpzData
from parallel_params.train.data.digits import SHAPE, load_digits
from parallel_params.train.data.sampler import Sampler, Share
from parallel_params.train.data.samples import Samples, load_npz
from parallel_params.train.data.shift import shift_pictures


class Batches:
    """The stream of batches of a job, as one rank sees it.

    Args:
        job: its seed and [data] table.
        samples: what the table names.
        share: which part of each batch is this rank's.
    """

    def __init__(self, job: Job, samples: Samples, share: Share) -> None:
        self._samples = samples
        self._share = share
        self._seed = job.seed
        self._batch_size = job.data.batch
        self._shift = job.data.shift if isinstance(job.data, DigitsData) else 0.0
        self._sampler = Sampler(len(samples.train_y), seed=job.seed)

    def at(self, cursor: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Give this rank's share of the batch that starts at `cursor`.

        Returns:
            [batch / ranks, *shape] samples and [batch / ranks] labels.
        """
        picked = self._sampler.batch(cursor, self._batch_size, self._share)
        x = self._samples.train_x[picked]
        if self._shift:
            start = cursor + self._share.index * len(picked)
            pictures = x.reshape(-1, *SHAPE)
            x = shift_pictures(
                pictures, start, seed=self._seed, most=self._shift
            ).reshape(x.shape)
        return x, self._samples.train_y[picked].astype(np.int32)


def load_samples(data: DigitsData | NpzData) -> Samples:
    """Read what a [data] table names.

    Raises:
        DataError: missing, foreign or damaged.
    """
    return load_npz(data.path) if isinstance(data, NpzData) else load_digits()
