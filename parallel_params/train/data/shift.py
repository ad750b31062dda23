"""Pictures moved by a fraction of a pixel, so that a model sees more hands than wrote.

How far sample n of the stream moves is a function of (seed, n) alone. Elementwise
arithmetic only, so a rank's part has the bits it has in the whole batch.
"""

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.random import Stream


def shift_pictures(
    pictures: NDArray[np.float32], start: int, *, seed: int, most: float
) -> NDArray[np.float32]:
    """Move each picture up or down and left or right by at most `most` pixels.

    Values between pixels are interpolated in a line; beyond the edge all is 0.

    Args:
        pictures: [num, height, width].
        start: position of the first in the stream of samples.
        seed: the job's.
        most: pixels, from 0 to 1.

    Returns:
        [num, height, width], new.
    """
    num = len(pictures)
    draws = Stream((seed, "shift")).uniform(2 * start, 2 * (start + num))
    moves = ((2.0 * draws - 1.0) * most).astype(np.float32).reshape(num, 2, 1, 1)
    moved = _move_down(pictures, moves[:, 0]).swapaxes(1, 2)
    shifted: NDArray[np.float32] = _move_down(moved, moves[:, 1]).swapaxes(1, 2)
    return shifted


def _move_down(
    pictures: NDArray[np.float32], moves: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Move along dim 1; `moves` is [num, 1, 1], positive towards higher indices."""
    down, up = np.maximum(moves, 0), np.maximum(-moves, 0)
    moved: NDArray[np.float32] = (np.float32(1) - down - up) * pictures
    moved[:, 1:] += down * pictures[:, :-1]
    moved[:, :-1] += up * pictures[:, 1:]
    return moved
