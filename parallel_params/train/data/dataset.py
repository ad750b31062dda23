"""What every kind of data gives a run: shapes, a digest, batches by position.

A dataset lies whole on every rank or is a map of a file that all of them see; what is
read of a map is what a rank asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.train.data.sampler import Share

Batch: TypeAlias = tuple[NDArray[np.generic], NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What a model is given and what it has to give back.

    Attributes:
        sample_shape: of one sample, without the dim of the batch.
        num_outputs: classes, targets, or words of the vocabulary.
        picture: height and width, where a sample is a picture.
        is_text: whether samples are words by number, and outputs are for each of them.
    """

    sample_shape: tuple[int, ...]
    num_outputs: int
    picture: tuple[int, int] | None = None
    is_text: bool = False


class Dataset(Protocol):
    """What a job learns from and is tested on; the same on every rank."""

    @property
    def num_train(self) -> int:
        """Samples to learn from."""
        ...

    @property
    def num_test(self) -> int:
        """Samples to test on."""
        ...

    @property
    def interface(self) -> Interface:
        """What a model of these samples looks like from outside."""
        ...

    @property
    def digest(self) -> str:
        """Checksum to agree on across ranks."""
        ...

    @property
    def facts(self) -> Mapping[str, object]:
        """What a run's record says about the data, as plain JSON values."""
        ...

    def problem(self, share: Share) -> str:
        """Look at this share of what was not looked at when it was opened.

        Returns:
            What is wrong with it, in a sentence; nothing if all is well.
        """
        ...

    def train_batch(self, picked: NDArray[np.int64], *, start: int, seed: int) -> Batch:
        """Give training samples.

        Args:
            picked: [num] which ones.
            start: position of the first in the stream of all samples of the run.
            seed: the job's.

        Returns:
            [num, *sample_shape] samples and [num, ...] what is to be said of them.
        """
        ...

    def test_batch(self, first: int, last: int) -> Batch:
        """Give the test samples [first, last), in the form of `train_batch`."""
        ...
