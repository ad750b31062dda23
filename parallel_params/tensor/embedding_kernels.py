"""Adding rows where they belong: the gradient of a lookup.

`np.add.at` is several times slower. Knows nothing of tensors or of the tape.
"""

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.tape import Array

# With fewer ids than this left, it pays to add up the rows of each by itself.
_FEW = 16


@kernel(fast="parallel_params.tensor.fast.forms")
def add_rows(ids: NDArray[np.integer], g: Array, out: Array) -> None:
    """Set out[i] to the sum of all g[k] with ids[k] == i.

    They are added one after the other in the order of k, as `np.add.at` does,
    unless the rows are one element wide.

    Args:
        ids: [rows] each in [0, num), may repeat.
        g: [rows, width].
        out: [num, width]; overwritten.
    """
    out.fill(0)
    if not ids.size:
        return
    order = np.argsort(ids, kind="stable")
    ordered = ids.take(order)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    owners, counts = ordered.take(starts), np.diff(starts, append=len(ids))
    out[owners] = g.take(order.take(starts), 0)
    # Second rows of all ids at once, then third rows, while many ids have that many.
    done = 1
    while True:
        is_left = counts > done
        owners, starts, counts = owners[is_left], starts[is_left], counts[is_left]
        if len(owners) < _FEW:
            break
        rows = out.take(owners, 0)
        np.add(rows, g.take(order.take(starts + done), 0), rows)
        out[owners] = rows
        done += 1
    for owner, start, count in zip(owners, starts, counts, strict=True):
        rows = g.take(order[start + done - 1 : start + count], 0)
        rows[0] = out[owner]
        np.add.reduce(rows, 0, out=out[owner])
