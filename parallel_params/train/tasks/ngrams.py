"""How well a word is told from the one, two, ... words before it, by counting.

The counts of all orders are interpolated by absolute discounting: a context passes what
it takes off its counts to the next shorter one, down to all words alike. How much is
taken off is chosen, order by order, on the last tenth of the training words, with
counts of the rest; then all training words are counted. Test words have no say.

Source: Ney, Essen and Kneser, On structuring probabilistic dependences in stochastic
language modelling (1994), section 2; the choice of the discounts is ours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DISCOUNTS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_TUNED_ON = 10


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Of one order: how often each context, and each context with a word."""

    contexts: NDArray[np.int64]
    totals: NDArray[np.int64]
    num_kinds: NDArray[np.int64]
    grams: NDArray[np.int64]
    counts: NDArray[np.int64]


def ngram_bits(
    train: NDArray[np.generic],
    test: NDArray[np.generic],
    *,
    vocabulary: int,
    order: int,
) -> list[float]:
    """Compute the mean bits per test word of interpolated n-gram models.

    Args:
        train: words to count.
        test: [num + 1] words; all but the first are told from those before.
        vocabulary: how many words there are.
        order: words of the longest n-gram, so 3 for a trigram.

    Returns:
        For n from 1 to `order`.
    """
    words, told = train.astype(np.int64), test.astype(np.int64)
    cut = len(words) - max(len(words) // _TUNED_ON, 2)
    discounts = _tune(words[:cut], words[cut:], vocabulary, order)
    chances = np.full(len(told) - 1, 1.0 / vocabulary)
    bits = []
    for length, discount in enumerate(discounts, start=1):
        counts = _count(words, vocabulary, length)
        chances = _refine(chances, told, counts, vocabulary, length, discount)
        bits.append(float(-np.log2(chances).mean()))
    return bits


def _tune(
    words: NDArray[np.int64], held: NDArray[np.int64], vocabulary: int, order: int
) -> list[float]:
    """Choose the discount of every order, the shorter ones first."""
    chosen: list[float] = []
    chances = np.full(len(held) - 1, 1.0 / vocabulary)
    for length in range(1, order + 1):
        counts = _count(words, vocabulary, length)
        tried = {
            discount: _refine(chances, held, counts, vocabulary, length, discount)
            for discount in _DISCOUNTS
        }
        best = max(tried, key=lambda discount: float(np.log(tried[discount]).mean()))
        chosen.append(best)
        chances = tried[best]
    return chosen


def _count(words: NDArray[np.int64], vocabulary: int, length: int) -> _Counts:
    grams, counts = np.unique(_codes(words, vocabulary, length), return_counts=True)
    contexts, first, num_kinds = np.unique(
        grams // vocabulary, return_index=True, return_counts=True
    )
    totals = np.add.reduceat(counts, first)
    return _Counts(contexts, totals, num_kinds, grams, counts)


def _codes(words: NDArray[np.int64], vocabulary: int, length: int) -> NDArray[np.int64]:
    """Write every run of `length` words as one number; [num - length + 1]."""
    num = max(len(words) - length + 1, 0)
    codes = np.zeros(num, dtype=np.int64)
    for place in range(length):
        codes = codes * vocabulary + words[place : place + num]
    return codes


def _refine(
    chances: NDArray[np.float64],
    told: NDArray[np.int64],
    counts: _Counts,
    vocabulary: int,
    length: int,
    discount: float,
) -> NDArray[np.float64]:
    """Interpolate the chances of a shorter context with those of this one."""
    refined: NDArray[np.float64] = chances.copy()
    # The first word is not told, and the next few have fewer words before them.
    skipped = max(length - 2, 0)
    codes = _codes(told, vocabulary, length)[1 if length == 1 else 0 :]
    shorter = chances[skipped:]
    total = _look_up(codes // vocabulary, counts.contexts, counts.totals)
    kinds = _look_up(codes // vocabulary, counts.contexts, counts.num_kinds)
    found = _look_up(codes, counts.grams, counts.counts)
    is_known = total > 0
    below = np.maximum(total, 1)
    mixed = (
        np.maximum(found - discount, 0.0) / below + discount * kinds / below * shorter
    )
    refined[skipped:] = np.where(is_known, mixed, shorter)
    return refined


def _look_up(
    codes: NDArray[np.int64], known: NDArray[np.int64], values: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give the value of each code, 0 where it is not known."""
    places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(known[places] == codes, values[places], 0)
