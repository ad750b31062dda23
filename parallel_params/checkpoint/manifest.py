"""What a checkpoint is: its tensors, where their bytes lie, and the rest of the state.

A description and nothing else: `manifest_codec.py` turns it into JSON and back,
`saving.py` writes what it describes, `reading.py` reads it. Ranks do not occur: a
checkpoint is of logical tensors, whoever wrote which part.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from parallel_params.plan.interval import Interval
from parallel_params.plan.spec import ITEM_BYTES
from parallel_params.plan.text import did_you_mean

BLOCK_BYTES = 4 << 20
"""Bytes of a tensor under one hash, at most: what is read to check a part of it."""


Layout: TypeAlias = Literal["one", "shards"]
"""`one`: ordinary files that all ranks write into. `shards`: every rank its own."""

Way: TypeAlias = Literal["system", "mpi"]
"""How ranks write into files of layout `one`: by `pwrite`, or by MPI-IO."""


class Key(NamedTuple):
    """Which values these are.

    Attributes:
        name: of the parameter.
        slot: of its optimizer state; empty for the weight.
        slice_index: of a layerwise-parallel parameter, which of its values.
    """

    name: str
    slot: str = ""
    slice_index: int = 0

    def __str__(self) -> str:
        kind = f"{self.slot} of {self.name!r}" if self.slot else f"{self.name!r}"
        return f"{kind}, slice {self.slice_index}" if self.slice_index else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive elements of a tensor that lie together in one file.

    Attributes:
        file: index among the files of the checkpoint.
        offset: of its first byte in the file.
        interval: which elements, of the tensor flattened in C order.
        hash: xxh3-128 of its bytes, 32 hex digits.
    """

    file: int
    offset: int
    interval: Interval
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor of a checkpoint.

    Attributes:
        key: which.
        num_slices: how many there are of it: 1, or the slices of a layerwise one.
        dtype: NumPy's name, or `bfloat16`.
        shape: of one slice.
        blocks: cover it from element 0, in order.
        aliases: further names of the parameter, for a weight.
        slice_dim: along which its slices are those of one tensor, if they are.
    """

    key: Key
    num_slices: int
    dtype: str
    shape: tuple[int, ...]
    blocks: tuple[Block, ...]
    aliases: tuple[str, ...] = ()
    slice_dim: int | None = None

    @property
    def numel(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Size of its data."""
        return self.numel * ITEM_BYTES[self.dtype]

    @property
    def file_key(self) -> str:
        """Its name inside of a file: `0.weight`, `moment1.0.weight`, `w@slice3`."""
        return file_key(self.key, self.num_slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a checkpoint, beside its manifest.

    Attributes:
        name: without any folder.
        num_bytes: its length.
        header_bytes: length of its head, in front of all data.
        header_hash: xxh3-128 of the head.
    """

    name: str
    num_bytes: int
    header_bytes: int
    header_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole checkpoint.

    Attributes:
        step: optimizer steps taken when it was saved.
        serial: counts the saves into one folder; the newest has the largest.
        layout: `one` (files that all ranks wrote into) or `shards` (a file per rank).
        files: which it consists of.
        tensors: what is in them.
        training: counts, loss scale, rates and randomness, as JSON values.
        cursor: samples that the world had consumed, if the caller counts them.
        metric: how good it was, larger is better, if the caller said so.
        extras: whatever the caller wanted to find again, as JSON values.
        plan: who held what, as `plan.codec` encodes it.
        written_by: the version of this package.
    """

    step: int
    serial: int
    layout: str
    files: tuple[StoredFile, ...]
    tensors: tuple[Stored, ...]
    training: Mapping[str, object]
    cursor: int | None
    metric: float | None
    extras: Mapping[str, object]
    plan: Mapping[str, object]
    written_by: str
    _by_key: Mapping[Key, Stored] = field(init=False, repr=False, compare=False)
    _first_names: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        first = {
            name: stored.key.name
            for stored in self.tensors
            for name in (*stored.aliases, stored.key.name)
        }
        by_key = {stored.key: stored for stored in self.tensors}
        object.__setattr__(self, "_by_key", by_key)
        object.__setattr__(self, "_first_names", first)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(file.num_bytes for file in self.files)

    @property
    def weights(self) -> tuple[Stored, ...]:
        """The weights, every slice of them."""
        return tuple(stored for stored in self.tensors if not stored.key.slot)

    def find(self, key: Key) -> Stored | None:
        """Return a tensor by the name or an alias of its parameter, if it is there."""
        name = self._first_names.get(key.name, key.name)
        return self._by_key.get(key._replace(name=name))

    def hint(self, name: str) -> str:
        """Return a sentence with the names that are nearest to one that is missing."""
        return did_you_mean(name, self._first_names)


def file_key(key: Key, num_slices: int) -> str:
    """Return the name of a tensor inside of a file."""
    name = f"{key.slot}.{key.name}" if key.slot else key.name
    return f"{name}@slice{key.slice_index}" if num_slices > 1 else name
