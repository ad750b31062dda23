"""A rank's share of each batch: samples picked in order, pictures moved if asked.

Everything is a function of the cursor, so there is no position to save but that.
"""

import numpy as np

from parallel_params.train.config.data import DigitsData, MnistData
from parallel_params.train.config.job import Job
from parallel_params.train.data.dataset import Batch, Dataset
from parallel_params.train.data.sampler import Sampler, Share
from parallel_params.train.data.shift import shift_pictures


class Batches:
    """The stream of batches of a job, as one rank sees it.

    Args:
        job: its seed and [data] table.
        dataset: what the table names.
        share: which part of each batch is this rank's.
    """

    def __init__(self, job: Job, dataset: Dataset, share: Share) -> None:
        self._dataset = dataset
        self._share = share
        self._seed = job.seed
        self._batch_size = job.data.batch // job.train.accumulate
        self._shift = 0.0
        if isinstance(job.data, DigitsData | MnistData):
            self._shift = job.data.shift
        self._sampler = Sampler(dataset.num_train, seed=job.seed)

    def at(self, cursor: int) -> Batch:
        """Give this rank's share of the batch that starts at `cursor`.

        Returns:
            [batch / ranks, *shape] samples and [batch / ranks, ...] what is to be said
            of them; with `train.accumulate`, of one of that many parts of a batch.
        """
        picked = self._sampler.batch(cursor, self._batch_size, self._share)
        start = cursor + self._share.index * len(picked)
        x, y = self._dataset.train_batch(picked, start=start, seed=self._seed)
        picture = self._dataset.interface.picture
        if self._shift and picture is not None:
            pictures = np.asarray(x, np.float32).reshape(-1, *picture)
            moved = shift_pictures(pictures, start, seed=self._seed, most=self._shift)
            x = moved.reshape(x.shape)
        return x, y
