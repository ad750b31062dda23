"""Words in a row, as numbers: characters of a text, or tokens of a file.

A sample is a window: `context` words, and behind each of them the word that follows.
The windows of an epoch lie side by side from a start that the seed draws anew for
every epoch, so that in time each word is seen at each place of a window.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError
from parallel_params.tensor.random import Stream
from parallel_params.train.data.dataset import Batch, Interface
from parallel_params.train.data.sampler import Share

_BLOCK = 1 << 20
_NUM_PROBES = 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Words:
    """A row of words to learn from and one to test on.

    Attributes:
        train: [num_train_words] whole numbers below `vocabulary`; maybe a map.
        test: [num_test_words], as `train`.
        context: words of a window.
        vocabulary: how many words there are.
        letters: what the words look like in this order, None if nobody knows.
        source: where they are from, for errors and records.
    """

    train: NDArray[np.generic]
    test: NDArray[np.generic]
    context: int
    vocabulary: int
    letters: Sequence[str] | None = None
    source: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, words, least in (
            ("to learn from", self.train, 2 * self.context),
            ("to test on", self.test, self.context + 1),
        ):
            if len(words) < least:
                raise DataError(
                    f"{self.source}: {len(words)} words {what}, but windows of "
                    f"data.context = {self.context} words need {least} or more"
                )

    @property
    def num_train(self) -> int:
        """Windows of an epoch, wherever it starts."""
        return len(self.train) // self.context - 1

    @property
    def num_test(self) -> int:
        """Windows to test on; words behind the last whole one are left out."""
        return (len(self.test) - 1) // self.context

    @property
    def interface(self) -> Interface:
        """What a model of these words looks like from outside."""
        return Interface(
            sample_shape=(self.context,), num_outputs=self.vocabulary, is_text=True
        )

    @property
    def digest(self) -> str:
        """Checksum of all words; of a map, of its length and some of its stretches."""
        total = hashlib.sha256(f"{self.context} {self.vocabulary}".encode())
        for words in (self.train, self.test):
            total.update(f"{words.dtype} {words.shape}".encode())
            if isinstance(words, np.memmap):
                for start in np.linspace(0, len(words), _NUM_PROBES, endpoint=False):
                    part = words[int(start) : int(start) + self.context]
                    total.update(np.asarray(part).data)
            else:
                total.update(np.ascontiguousarray(words).data)
        return total.hexdigest()[:16]

    def problem(self, share: Share) -> str:
        """Look for words that are not in the vocabulary in a share of all of them."""
        for what, words in (("training", self.train), ("test", self.test)):
            first, last = (
                len(words) * index // share.count
                for index in (share.index, share.index + 1)
            )
            for start in range(first, last, _BLOCK):
                block = np.asarray(words[start : min(start + _BLOCK, last)])
                low, high = int(block.min()), int(block.max())
                if low < 0 or high >= self.vocabulary:
                    found = low if low < 0 else high
                    where = start + int(np.flatnonzero(block == found)[0])
                    return (
                        f"{self.source}: {what} word {where} is {found}; expected "
                        f"0 to {self.vocabulary - 1} (data.vocabulary)"
                    )
        return ""

    def train_batch(self, picked: NDArray[np.int64], *, start: int, seed: int) -> Batch:
        """Give windows to learn from; their epoch decides where they start."""
        epochs = (start + np.arange(len(picked))) // self.num_train
        shifts = np.zeros(len(picked), dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            word = int(Stream((seed, "window", epoch)).words(0, 1)[0])
            shifts[epochs == epoch] = word % self.context
        return self._windows(self.train, picked * self.context + shifts)

    def test_batch(self, first: int, last: int) -> Batch:
        """Give the windows [first, last) to test on, side by side."""
        return self._windows(self.test, np.arange(first, last) * self.context)

    def _windows(self, words: NDArray[np.generic], starts: NDArray[np.int64]) -> Batch:
        places = starts[:, np.newaxis] + np.arange(self.context + 1)
        taken = np.asarray(words[places], dtype=np.int32)
        return np.ascontiguousarray(taken[:, :-1]), np.ascontiguousarray(taken[:, 1:])

    def spell(self, words: Sequence[int]) -> str:
        """Write words as a text; as numbers if nobody knows what they look like."""
        if self.letters is None:
            return " ".join(map(str, words))
        return "".join(self.letters[word] for word in words)
