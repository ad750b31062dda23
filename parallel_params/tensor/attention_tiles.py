"""Tiles of attention: where they lie, and what is done to one while it is in the cache.

NumPy's exponentials are taken relative to a head's largest score in a tile. Scores are
scaled on the way there, and their gradients on the way back: they lie in the cache, and
queries do not.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.kernels import BLOCK
from parallel_params.tensor.tape import Array

# Rows of exponentials that add up to less than this have lost digits to underflow.
_FAINT = 1e-20
# Queries in a tile under a causal mask: fewer skip more of it, more multiply faster.
_CAUSAL_QUERIES = 64

# (batch, head, queries) -> which of [queries, keys] dropout lets stand
Keeps: TypeAlias = Callable[[int, int, slice], NDArray[np.bool_]]
# [batch, heads, queries, width], [batch, groups, keys, width] and
# [batch, groups, keys, width of values]; heads // groups heads in a row share a group.
Heads: TypeAlias = tuple[Array, Array, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How queries look at keys.

    Args:
        scale: what scores are multiplied by.
        is_causal: whether query i sees only the keys 0 to i.
        bias: [batch, heads, queries, keys] added to the scores, may be broadcast views.
        keeps: which probabilities dropout lets stand; None for all.
        keep_prob: their share.
    """

    scale: float
    is_causal: bool = False
    bias: Array | None = None
    keeps: Keeps | None = None
    keep_prob: float = 1.0


@kernel(fast="parallel_params.tensor.fast.forms")
def probabilities(e: Array, scale: Array, future: Array | None, log: Array) -> bool:
    """Take the softmax of e * scale + future in place, row by row.

    Args:
        e: [heads, rows, keys] scores, C-contiguous.
        scale: [] what they are multiplied by.
        future: [rows, late] 0 and, above the diagonal, -infinity, for the last keys;
            None if all are seen.
        log: [heads, rows] receives the logarithm of the sums of the exponentials.

    Returns:
        Whether that was done; False where some row needs a maximum of its own: e is
        spoilt then.
    """
    _mask(e, scale, future)
    tops = np.maximum.reduce(e.reshape(len(e), -1), 1, initial=-np.inf)
    if not np.minimum.reduce(tops) > -np.inf:
        return False
    np.subtract(e, tops[:, None, None], e)
    np.exp(e, e)
    sums = _row_sums(e)
    if not np.minimum.reduce(sums, None) >= _FAINT:
        return False
    np.divide(e, sums[:, :, None], e)
    np.add(np.log(sums), tops[:, None], log)
    return True


@kernel(fast="parallel_params.tensor.fast.forms")
def slopes(p: Array, d: Array, log: Array, scale: Array, future: Array | None) -> None:
    """Make the probabilities again, and the gradients of the scores.

    Args:
        p: [heads, rows, keys] scores; becomes exp(p * scale + future - log of rows).
        d: [heads, rows, keys] gradients of those; becomes (d - sum(d * p)) * p * scale.
        log: [heads, rows] as `probabilities` left them.
        scale: [] as `probabilities` had it.
        future: likewise.
    """
    _mask(p, scale, future)
    np.subtract(p, log[:, :, None], p)
    np.exp(p, p)
    kept_slopes.numpy(p, d, scale, future)


@kernel(fast="parallel_params.tensor.fast.forms")
def kept_slopes(p: Array, d: Array, scale: Array, future: Array | None) -> None:
    """Take the gradients of the scores, where the probabilities were kept.

    Args:
        p: [heads, rows, keys] the probabilities, 0 where `future` hides keys.
        d: [heads, rows, keys] their gradients; becomes (d - sum(d * p)) * p * scale.
        scale: [] as `probabilities` had it.
        future: likewise.
    """
    np.subtract(d, _row_sums(np.multiply(p, d))[:, :, None], d)
    np.multiply(d, p, d)
    if scale != 1:
        np.multiply(d, scale, d)


def _row_sums(x: Array) -> Array:
    """Return the sums over the last dim of [heads, rows, keys]."""
    heads, rows, keys = x.shape
    sums: Array = x.reshape(heads * rows, keys).dot(np.ones(keys, x.dtype))
    return sums.reshape(heads, rows)


def _mask(scores: Array, scale: Array, future: Array | None) -> None:
    if scale != 1:
        np.multiply(scores, scale, scores)
    if future is not None:
        late = scores[:, :, scores.shape[2] - future.shape[1] :]
        np.add(late, future, late)


class Tiles:
    """Where the tiles of heads lie, and memory for the scores of some.

    Attributes:
        places: queries of a tile, and how many keys it looks at.
        stacks: what is computed at once: which of the batch, heads of the queries, and
            their heads of keys and values: as many, or the one that they share.
        are_kept: whether the sweep finds the probabilities.
    """

    def __init__(self, q: Array, k: Array, scheme: Scheme) -> None:
        queries, keys, dtype = q.shape[2], k.shape[2], q.dtype
        step = max(1, BLOCK // (2 * max(1, keys)))
        self.are_kept = step >= queries and scheme.keeps is None
        if scheme.is_causal:
            step = min(step, _CAUSAL_QUERIES)
        step = min(step, queries)
        self.places = [
            (
                slice(start, min(start + step, queries)),
                min(start + step, keys) if scheme.is_causal else keys,
            )
            for start in range(0, queries, max(1, step))
        ]
        # Of a head, before each tile and in all of them.
        self._starts = [0]
        for rows, stop in self.places:
            self._starts.append(self._starts[-1] + (rows.stop - rows.start) * stop)
        at_once = max(1, BLOCK // (2 * max(1, step * keys)))
        self.stacks = _stacks(q, k, 1 if scheme.keeps is not None else at_once)
        self.scale = np.asarray(scheme.scale, dtype)
        self._keep_prob = np.asarray(scheme.keep_prob, dtype)
        self._one = np.asarray(1, dtype)
        self._q, self._scheme = q, scheme
        num = min(at_once, q.shape[1])
        self._memory = [np.empty(num * step * keys, dtype) for _ in range(2)]
        # Above the diagonal lie the keys of the future.
        self._future = np.triu(np.full((step, step), -np.inf, dtype), 1)

    def memory_to_save(self) -> Array:
        """Return memory for what the sweep needs, see `attention`."""
        shape: tuple[int, ...] = self._q.shape[:3]
        if self.are_kept:
            shape = (shape[0] * shape[1] * self._starts[-1],)
        return np.empty(shape, self._q.dtype)

    def kept(self, saved: Array, b: int, heads: slice, tile: int) -> Array:
        """Return where the probabilities of a tile lie, [heads, queries, keys]."""
        rows, stop = self.places[tile]
        num = heads.stop - heads.start
        start = (b * self._q.shape[1] + heads.start) * self._starts[-1]
        before, after = self._starts[tile : tile + 2]
        flat = saved[start + num * before : start + num * after]
        return flat.reshape(num, rows.stop - rows.start, stop)

    def room(self, number: int, num_heads: int, rows: slice, num_keys: int) -> Array:
        """Return scratch memory [heads, queries, keys]; two are to be had."""
        num_rows = rows.stop - rows.start
        flat = self._memory[number][: num_heads * num_rows * num_keys]
        return flat.reshape(num_heads, num_rows, num_keys)

    def keep(self, b: int, heads: slice, tile: int) -> Array | None:
        """Return which probabilities of one head's tile dropout lets stand, if any."""
        if self._scheme.keeps is None:
            return None
        rows, stop = self.places[tile]
        return self._scheme.keeps(b, heads.start, rows)[:, :stop]

    def drop(self, array: Array, keep: Array | None) -> None:
        """Let dropout, if there is any, have its share of a tile."""
        if keep is not None:
            np.multiply(array, keep, array)
            np.divide(array, self._keep_prob, array)

    def future(self, rows: slice, stop: int) -> Array | None:
        """Return what hides the keys up to `stop` from earlier queries; or None."""
        if not self._scheme.is_causal or rows.start >= stop:
            return None
        return self._future[: rows.stop - rows.start, : stop - rows.start]

    def scores(
        self, b: int, heads: slice, rows: slice, keys: Array, out: Array
    ) -> Array:
        """Write the scores of a tile, and return what is left to scale them by.

        They are scaled only where there is a bias to add.
        """
        np.matmul(self._q[b, heads, rows], keys.swapaxes(1, 2), out=out)
        bias = self._scheme.bias
        if bias is None:
            return self.scale
        np.multiply(out, self.scale, out)
        np.add(out, bias[b, heads, rows, : keys.shape[1]], out)
        return self._one

    def probabilities(
        self, b: int, heads: slice, rows: slice, keys: Array, log: Array, e: Array
    ) -> None:
        """Write the probabilities of a tile.

        Args:
            b: which of the batch.
            heads: which heads.
            rows: the queries.
            keys: [heads or 1, keys, width] those that are seen.
            log: [heads, rows] receives the logarithm of the sums of exp(scores); 0
                for a row that sees nothing, whose probabilities are 0.
            e: [heads, rows, keys] receives the probabilities.
        """
        future = self.future(rows, keys.shape[1])
        scale = self.scores(b, heads, rows, keys, e)
        if probabilities(e, scale, future, log):
            return
        if len(e) > 1:  # what one head has is not to be seen in another
            for i in range(len(e)):
                one, head = slice(i, i + 1), heads.start + i
                own = slice(head, head + 1)
                seen = keys[one] if len(keys) > 1 else keys
                self.probabilities(b, own, rows, seen, log[one], e[one])
            return
        scale = self.scores(b, heads, rows, keys, e)
        _mask(e, scale, future)
        if future is not None:  # a NaN has not become -infinity
            late = e[:, :, e.shape[2] - future.shape[1] :]
            np.copyto(late, future, where=future < 0)
        tops = np.maximum.reduce(e, 2, initial=-np.inf)
        is_blind = np.isneginf(tops)
        tops[is_blind] = 0
        np.subtract(e, tops[:, :, None], e)
        np.exp(e, e)
        sums = np.add.reduce(e, 2)
        sums[is_blind] = 1
        np.divide(e, sums[:, :, None], e)
        np.add(np.log(sums), tops, log)


def _stacks(q: Array, k: Array, at_once: int) -> list[tuple[int, slice, slice]]:
    """Cut the heads into stacks, of heads with keys of their own or of one key head."""
    heads, groups = q.shape[1], k.shape[1]
    share = heads // max(1, groups)
    limit = heads if share == 1 else share
    found = []
    for b, start in itertools.product(range(q.shape[0]), range(0, heads, limit or 1)):
        for first in range(start, start + limit, at_once):
            own = slice(first, min(first + at_once, start + limit))
            group = first // share
            shared = own if share == 1 else slice(group, group + 1)
            found.append((b, own, shared))
    return found
