"""Where the values of one tensor come from: a stored one, several, parts of them.

A source tells which elements of which stored tensors are wanted for elements of the
tensor that is filled, and reads no more than these.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from parallel_params.checkpoint.manifest import Stored
from parallel_params.checkpoint.reading import Reader
from parallel_params.plan.interval import Interval
from parallel_params.plan.spec import ITEM_BYTES
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array


class Span(NamedTuple):
    """Consecutive elements that are read at once.

    Attributes:
        stored: where they are.
        there: which elements of that.
        here: which elements of the tensor that is filled.
    """

    stored: Stored
    there: Interval
    here: Interval


@dataclass(frozen=True, slots=True)
class Copied:
    """The stored tensor as it is."""

    stored: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor that is filled."""
        return self.stored.shape

    @property
    def dtype(self) -> str:
        """NumPy's name of its element type, or `bfloat16`."""
        return self.stored.dtype

    def spans(self, interval: Interval) -> Iterator[Span]:
        """Yield what is read for an interval of the tensor that is filled."""
        yield Span(self.stored, interval, interval)


@dataclass(frozen=True, slots=True)
class Averaged:
    """The mean of several stored slices, made in float64."""

    slices: tuple[Stored, ...]

    def spans(self, interval: Interval) -> Iterator[Span]:
        """Yield what is read for an interval of the tensor that is filled."""
        for stored in self.slices:
            yield Span(stored, interval, interval)


@dataclass(frozen=True, slots=True)
class Anew:
    """Nothing: it begins at zero."""

    def spans(self, interval: Interval) -> Iterator[Span]:
        """Yield nothing."""
        del interval
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recut:
    """A part along one dim of the tensor that the stored slices make together.

    Attributes:
        slices: all of them, in order and of one shape.
        dim: along which they lie behind each other.
        start: where the wanted part begins along the dim.
        shape: of the wanted part.
    """

    slices: tuple[Stored, ...]
    dim: int
    start: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """NumPy's name of its element type, or `bfloat16`."""
        return self.slices[0].dtype

    def spans(self, interval: Interval) -> Iterator[Span]:
        """Yield what is read for an interval of the tensor that is filled."""
        inner = math.prod(self.shape[self.dim + 1 :])
        row_here = self.shape[self.dim] * inner
        row_there = self.slices[0].shape[self.dim] * inner
        place = interval.start
        while place < interval.stop:
            outer, inside = divmod(place, row_here)
            index, within = divmod(self.start * inner + inside, row_there)
            numel = min(interval.stop - place, row_here - inside, row_there - within)
            first = outer * row_there + within
            yield Span(
                self.slices[index],
                Interval(first, first + numel),
                Interval(place, place + numel),
            )
            place += numel


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked:
    """Some rows of what several tensors are below each other.

    Attributes:
        parts: the tensors, of rows of one shape.
        start: the first element that is wanted.
        shape: of the wanted rows.
    """

    parts: tuple[Copied | Recut, ...]
    start: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """NumPy's name of its element type, or `bfloat16`."""
        return self.parts[0].dtype

    def spans(self, interval: Interval) -> Iterator[Span]:
        """Yield what is read for an interval of the tensor that is filled."""
        wanted, first = interval.shift(self.start), 0
        for part in self.parts:
            whole = Interval(first, first + math.prod(part.shape))
            inside = whole.intersect(wanted)
            for span in part.spans(inside.shift(-first)) if not inside.is_empty else ():
                yield span._replace(here=span.here.shift(first - self.start))
            first = whole.stop


Source: TypeAlias = Copied | Averaged | Anew | Recut | Stacked


def joined(slices: Sequence[Stored], dim: int) -> Recut:
    """Return the whole tensor that slices make along a dim."""
    shape = list(slices[0].shape)
    shape[dim] *= len(slices)
    return Recut(slices=tuple(slices), dim=dim, start=0, shape=tuple(shape))


def read_whole(reader: Reader, source: Copied | Recut) -> Array:
    """Return a whole tensor, checked.

    Raises:
        CheckpointDamaged: naming the file and the tensor.
    """
    whole = Interval(0, math.prod(source.shape))
    check(reader, source, whole)
    out = np.empty(whole.numel, dtype_named(source.dtype).numpy)
    fill(reader, source, whole, out)
    array: Array = out.reshape(source.shape)
    return array


def check(reader: Reader, source: Source, interval: Interval) -> None:
    """Check the hashes of all that is read for an interval.

    Raises:
        CheckpointDamaged: naming the file and the tensor.
    """
    wanted: dict[int, tuple[Stored, Interval]] = {}
    for stored, there, _ in source.spans(interval):
        before = wanted.get(id(stored), (stored, there))[1]
        around = Interval(min(before.start, there.start), max(before.stop, there.stop))
        wanted[id(stored)] = stored, around
    for stored, around in wanted.values():
        reader.check(stored, around)


def fill(reader: Reader, source: Source, interval: Interval, out: Array) -> int:
    """Read the values of an interval, which were checked; return how many bytes.

    Args:
        reader: of the checkpoint.
        source: of the tensor.
        interval: which of its elements.
        out: [interval.numel] contiguous. Written.

    Raises:
        CheckpointDamaged: a file is shorter than it was.
    """
    if isinstance(source, Anew):
        out[...] = 0
        return 0
    if isinstance(source, Averaged):
        return _fill_mean(reader, source, interval, out)
    num_bytes = 0
    for stored, there, here in source.spans(interval):
        reader.read(stored, there, out[here.shift(-interval.start).as_slice()])
        num_bytes += there.numel * ITEM_BYTES[stored.dtype]
    return num_bytes


def _fill_mean(reader: Reader, source: Averaged, interval: Interval, out: Array) -> int:
    total, values = np.zeros(out.shape, np.float64), np.empty_like(out)
    for stored, there, _ in source.spans(interval):
        reader.read(stored, there, values)
        total += values.astype(np.float64)
    out[...] = (total / len(source.slices)).astype(out.dtype)
    return out.nbytes * len(source.slices)
