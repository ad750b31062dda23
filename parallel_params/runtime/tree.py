"""The one order in which grains are added, wherever they were computed.

Neighbours are added in pairs, the pairs in pairs, and so on; an odd one out waits for
the next round. A rank that computes several grains one after the other needs no more
than a logarithmic number of buffers for that order, and what it ends with is a subtree
of the whole when both counts are powers of two. So the sum has the same bits however
the grains lie on ranks.

Nothing here communicates.
"""

from collections.abc import Callable, Sequence


class GrainSum:
    """Which buffer the next grain is computed in, and which sums are then due.

    Used once per step: `slot` says where the coming grain goes, `close` performs the
    additions that have become possible. After the last grain `finish` leaves the sum of
    all of them in buffer 0. A binary counter: n grains need a buffer per bit of n,
    which is the plan's `num_partials`.

    Args:
        add: adds buffer `source` into buffer `target`, called as add(target, source).
    """

    def __init__(self, add: Callable[[int, int], None]) -> None:
        self._add = add
        self._num_closed = 0
        self.slot = 0

    def close(self) -> None:
        """Take the grain in buffer `slot` as done."""
        self._num_closed += 1
        pairs = self._num_closed
        while pairs % 2 == 0:
            self._fold()
            pairs //= 2
        self.slot += 1

    def finish(self) -> None:
        """Add what is left over when the number of grains is no power of two."""
        self.slot -= 1
        while self.slot > 0:
            self._fold()

    def _fold(self) -> None:
        self._add(self.slot - 1, self.slot)
        self.slot -= 1


def tree_sum(values: Sequence[float]) -> float:
    """Add numbers in the order of the tree; 0.0 for none."""
    level = list(values)
    while len(level) > 1:
        pairs = [level[i] + level[i + 1] for i in range(0, len(level) - 1, 2)]
        level = pairs + level[2 * len(pairs) :]
    return level[0] if level else 0.0
