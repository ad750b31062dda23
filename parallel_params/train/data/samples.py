"""Samples with labels or with targets: four arrays, in memory or maps of files.

Labels are whole numbers, targets are not; which of the two there are decides what a
model has to give. Readers of files make these; order and shares are `sampler`'s.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parallel_params.train.data.dataset import Batch, Interface
from parallel_params.train.data.sampler import Share

# Rows of a map that are looked at together.
_BLOCK = 4096
# Rows of a map that stand for all of them in a digest: reading all would be a copy.
_NUM_PROBES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What to learn from and what to test on.

    Attributes:
        train_x: [num_train, *shape] numbers; float32 unless it is a map of a file.
        train_y: [num_train] int64 labels from 0, or [num_train, num_targets] float32.
        test_x: [num_test, *shape] numbers, as `train_x`.
        test_y: [num_test] or [num_test, num_targets], as `train_y`.
        picture: height and width, if samples are pictures with values from 0 to 1.
        spread: what targets were divided by, so that errors can be said in their unit.
        source: where they are from, for errors and records.
    """

    train_x: NDArray[np.generic]
    train_y: NDArray[np.generic]
    test_x: NDArray[np.generic]
    test_y: NDArray[np.generic]
    picture: tuple[int, int] | None = None
    spread: float = 1.0
    source: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def num_train(self) -> int:
        """Samples to learn from."""
        return len(self.train_y)

    @property
    def num_test(self) -> int:
        """Samples to test on."""
        return len(self.test_y)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.train_x.shape[1:]

    @property
    def has_labels(self) -> bool:
        """Whether what is to be said of a sample is its class."""
        return self.train_y.dtype.kind == "i"

    @property
    def num_classes(self) -> int:
        """Labels are below this."""
        return int(self.train_y.astype(np.int64).max()) + 1

    @property
    def interface(self) -> Interface:
        """What a model of these samples looks like from outside."""
        return Interface(
            sample_shape=self.shape,
            num_outputs=self.num_classes if self.has_labels else self.train_y.shape[1],
            picture=self.picture,
        )

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """All four."""
        return self.train_x, self.train_y, self.test_x, self.test_y

    @property
    def digest(self) -> str:
        """Checksum of all four arrays; of a map, of its shape and some of its rows."""
        total = hashlib.sha256()
        for array in self.arrays:
            total.update(f"{array.dtype} {array.shape}".encode())
            if isinstance(array, np.memmap):
                probes = np.linspace(0, len(array) - 1, _NUM_PROBES).astype(np.int64)
                array = np.asarray(array[np.unique(probes)])
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()[:16]

    def problem(self, share: Share) -> str:
        """Look for values that are no numbers in a share of the maps."""
        for name, array in (("x", self.train_x), ("test_x", self.test_x)):
            if not isinstance(array, np.memmap) or array.dtype.kind != "f":
                continue
            first, last = (
                len(array) * index // share.count
                for index in (share.index, share.index + 1)
            )
            for start in range(first, last, _BLOCK):
                block = as_float32(array[start : min(start + _BLOCK, last)])
                if not np.isfinite(block).all():
                    row = start + int(
                        np.flatnonzero(
                            ~np.isfinite(block).reshape(len(block), -1).all(axis=1)
                        )[0]
                    )
                    return (
                        f"{self.source}: {name} has a value that is not finite in "
                        f"sample {row}; leave such samples out"
                    )
        return ""

    def train_batch(self, picked: NDArray[np.int64], *, start: int, seed: int) -> Batch:
        """Give training samples as float32, with int32 labels or float32 targets."""
        return _as_batch(self.train_x[picked], self.train_y[picked])

    def test_batch(self, first: int, last: int) -> Batch:
        """Give the test samples [first, last)."""
        return _as_batch(self.test_x[first:last], self.test_y[first:last])


def _as_batch(x: NDArray[np.generic], y: NDArray[np.generic]) -> Batch:
    kind = np.int32 if y.dtype.kind == "i" else np.float32
    return as_float32(x), np.asarray(y, kind)


def as_float32(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """Convert numbers; those too large become infinite, without a warning."""
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32)
