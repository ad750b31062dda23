"""Counter-based randomness: any interval alone equals the slice of the whole.

A `Stream` is named by keys: the seed, then what it is for. Element i of a stream is
word i of a Philox sequence, mapped by the inverse of a distribution function, so it
depends on (keys, i) alone: not on the rank, on the cut, or on what was drawn before.
The laws use only operations that IEEE 754 rounds exactly, so they give the same bits on
every CPU.

The rest is bookkeeping per thread (ranks of a thread world are threads): the seed,
which is 0 until `set_seed`, or that of the caller of a thread world, and a count that
gives every `next_stream()` its own stream. All ranks that do the same agree without a
message. This module knows no parameters and no initialisers; those are in
`tensor/initializer.py`.
"""

import hashlib
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor import quantile

Key: TypeAlias = int | str
Words: TypeAlias = NDArray[np.uint64]
Reals: TypeAlias = NDArray[np.float64]

# Elements per block of a normal draw: the block and its temporaries stay in L2.
BLOCK = 1 << 14
# The same for events, which are made of a quarter of a word.
_BITS_BLOCK = 1 << 16
# Chances below this, or this near to 1, are worth 32 bits.
_RARE = 2.0**-7


@dataclass(frozen=True, slots=True)
class Stream:
    """A sequence of random numbers, random access.

    Args:
        keys: what the numbers are a function of; the first is the seed. Integers and
            texts differ: `("step", 1)` and `("step", "1")` name two streams.
    """

    keys: tuple[Key, ...]

    def derive(self, *keys: Key) -> "Stream":
        """Return the stream named by these keys below this one."""
        return Stream(self.keys + keys)

    def words(self, start: int, stop: int) -> Words:
        """Return elements [start, stop) of the raw sequence: 64 random bits each.

        Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011).
        """
        # Four words per value of the counter.
        skipped = start % 4
        raw = _state.generator_at(_digest(self.keys), start // 4)
        return raw.random_raw(stop - start + skipped)[skipped:]

    def uniform(self, start: int, stop: int) -> Reals:
        """Return elements [start, stop) of the law on (0, 1), symmetric about 1/2.

        The ends never occur, so logarithms and quantiles of them are finite.
        """
        # 52 bits and a half: the sum is exact, and so is one minus it.
        shifted: Reals = (self.words(start, stop) >> np.uint64(12)) + 0.5
        shifted *= 2.0**-52
        return shifted

    def normal(self, start: int, stop: int) -> Reals:
        """Return elements [start, stop) of the law N(0, 1)."""
        out = np.empty(stop - start)
        for begin in range(start, stop, BLOCK):
            end = min(begin + BLOCK, stop)
            quantile.normal(
                self.uniform(begin, end), out=out[begin - start : end - start]
            )
        return out

    def bernoulli(self, start: int, stop: int, probability: float) -> NDArray[np.bool_]:
        """Return for each of [start, stop) whether an event of that chance happens.

        A quarter of a word per element, so a quarter of the price of `uniform`; chances
        are rounded to 16 bits. Near 0 and 1, where that could be seen, it is half a
        word, and 32 bits.
        """
        is_common = _RARE <= probability <= 1.0 - _RARE
        bits, kind = (16, "<u2") if is_common else (32, "<u4")
        limit = round(probability * 2**bits)
        share = 64 // bits
        out = np.empty(stop - start, np.bool_)
        # Blocks start at a whole word, wherever the interval does.
        for begin in range(start - start % share, stop, _BITS_BLOCK):
            end = min(begin + _BITS_BLOCK, stop)
            words = self.words(begin // share, -(-end // share))
            parts = words.astype("<u8", copy=False).view(kind)
            first = max(begin, start)
            mine = parts[first - begin : end - begin]
            np.less(mine, limit, out=out[first - start : end - start])
        return out


def _digest(keys: tuple[Key, ...]) -> Words:
    """Return the Philox key of a stream, [2]."""
    text = "".join(f"{type(key).__name__}{len(str(key))}:{key}" for key in keys)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


# Of the thread in whose context this one began: a rank of a thread world has its seed.
_seed_of_caller: ContextVar[int] = ContextVar("seed", default=0)


class _State(threading.local):
    """This thread's seed, open scopes, counts, and its one Philox generator."""

    def __init__(self) -> None:
        # Of the seed and the open scopes: what the next stream is derived from.
        self.keys: tuple[Key, ...] = (_seed_of_caller.get(),)
        self.num_drawn = 0
        # Setting the state of a generator costs a tenth of making one.
        self._philox = np.random.Philox(key=0)
        self._philox_state = self._philox.state

    def generator_at(self, key: Words, counter: int) -> np.random.Philox:
        state = self._philox_state
        state["state"]["key"] = key
        state["state"]["counter"][:] = (counter, 0, 0, 0)
        state["buffer_pos"] = 4
        self._philox.state = state
        return self._philox


_state = _State()


def set_seed(seed: int) -> None:
    """Start this thread's randomness afresh: the same seed, the same sequence.

    Initial weights are functions of (seed, how many tensors were initialised since this
    call, position). Not of the parameter's name: a layer draws its weights before
    anybody has named it. So build the same model in the same order on every rank.

    Raises:
        TypeError: the seed is not an integer.
        ValueError: the seed is negative.
    """
    if type(seed) is not int:
        raise TypeError(f"a seed is an int, not {type(seed).__name__}")
    if seed < 0:
        raise ValueError(f"a seed is at least 0, not {seed}")
    _state.keys = (seed,)
    _seed_of_caller.set(seed)
    _state.num_drawn = 0


def get_seed() -> int:
    """Return this thread's seed; 0 unless `set_seed` was called."""
    return int(_state.keys[0])


def get_position() -> tuple[int, int]:
    """Return this thread's seed, and how many streams were drawn since it was set."""
    return get_seed(), _state.num_drawn


def set_position(seed: int, num_drawn: int) -> None:
    """Go on where `get_position` was asked; not inside of a `scope`."""
    set_seed(seed)
    _state.num_drawn = num_drawn


Mark: TypeAlias = tuple[tuple[Key, ...], int]


def get_mark() -> Mark:
    """Return where this thread's draws are, for `replay`."""
    return _state.keys, _state.num_drawn


class replay:  # noqa: N801 - used like a function: `with replay(mark):`
    """Draw in this block what was drawn after `get_mark`; go on behind it as before."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark

    def __enter__(self) -> None:
        self._outer = get_mark()
        _state.keys, _state.num_drawn = self._mark

    def __exit__(self, *_: object) -> None:
        _state.keys, _state.num_drawn = self._outer


def next_stream() -> Stream:
    """Return a stream of its own: a function of (seed, scope, how many before)."""
    ordinal = _state.num_drawn
    _state.num_drawn = ordinal + 1
    return Stream((*_state.keys, "draw", ordinal))


class scope:  # noqa: N801 - used like a function: `with scope("step", step):`
    """Make the draws in this block functions of (seed, keys, ordinal in the block).

    What was drawn before the block does not matter, and the block leaves no trace: this
    is how a dropout mask depends on the step and the grain, never on the rank. Scopes
    nest; the keys of the outer come first.
    """

    def __init__(self, *keys: Key) -> None:
        self._keys = keys

    def __enter__(self) -> None:
        self._outer = _state.keys, _state.num_drawn
        _state.keys, _state.num_drawn = (
            (*_state.keys, "scope", *self._keys),
            0,
        )

    def __exit__(self, *_: object) -> None:
        _state.keys, _state.num_drawn = self._outer
