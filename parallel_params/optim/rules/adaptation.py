"""One step of Adam's family on a slice: the moments, then the weight along them."""

from typing import NamedTuple

import numpy as np

from parallel_params.optim.blocks import BLOCK_BYTES, fixed_scalars, run_blocks
from parallel_params.optim.rule import state_dtype
from parallel_params.tensor.kernel_set import kernel
from parallel_params.tensor.tape import Array


class Adaptation(NamedTuple):
    """The numbers of one step of the family.

    Attributes:
        beta1: what stays of the mean.
        beta2: what stays of the mean square.
        eps: added to the root of the mean square.
        pull: what the weight moves along the quotient.
        gradient_scale: the gradient meant is this times the one given.
        keep: what decay leaves of the weight.
        weight_decay: of the weight that is added to the gradient; 0 for none.
        use_nesterov: whether the weight moves along the mean of the next step.
    """

    beta1: float
    beta2: float
    eps: float
    pull: float
    gradient_scale: float
    keep: float = 1.0
    weight_decay: float = 0.0
    use_nesterov: bool = False


@kernel(fast="parallel_params.optim.fast.adam")
def adapt(
    weight: Array, gradient: Array, mean: Array, square: Array, how: Adaptation
) -> None:
    """Move the moments, then the weight along mean / (sqrt(square) + eps).

    Args:
        weight: [n], written.
        gradient: [n], only read.
        mean: [n], written; the first moment.
        square: [n], written; the second moment.
        how: the numbers.
    """
    move = _Adapt(state_dtype(weight.dtype), how)
    num_scratch = 2 if how.use_nesterov else 1
    if not how.weight_decay:
        run_blocks(move, weight, gradient, (mean, square), num_scratch=num_scratch)
        return
    decay, scale = fixed_scalars(
        state_dtype(weight.dtype), how.weight_decay, how.gradient_scale
    )

    def run(w: Array, g: Array, m: Array, v: Array, d: Array, *t: Array) -> None:
        np.multiply(w, decay, d)
        np.add(d, g if how.gradient_scale == 1.0 else np.multiply(g, scale, t[0]), d)
        move(w, d, m, v, *t)

    run_blocks(run, weight, gradient, (mean, square), num_scratch=1 + num_scratch)


@kernel(fast="parallel_params.optim.fast.adam")
def adapt_pair(
    weight: Array,
    left: Array,
    right: Array,
    mean: Array,
    square: Array,
    how: Adaptation,
) -> None:
    """Do what `adapt` does with the gradient left + right, which is stored nowhere.

    Args:
        weight: [n], written.
        left: [n], only read.
        right: [n] of the same type, only read.
        mean: [n], written; the first moment.
        square: [n], written; the second moment.
        how: the numbers.
    """
    limit = BLOCK_BYTES // state_dtype(weight.dtype).itemsize
    scratch = np.empty(min(weight.size, limit), left.dtype)
    for start in range(0, weight.size, limit):
        part = slice(start, min(start + limit, weight.size))
        total = np.add(left[part], right[part], scratch[: part.stop - start])
        adapt(weight[part], total, mean[part], square[part], how)


class _Adapt:
    """One block of `adapt`, where decay has been added to the gradient already.

    With a second scratch array the step is Nesterov's.
    """

    __slots__ = ("_constants", "_eps", "_keep", "_pull")

    def __init__(self, dtype: np.dtype[np.generic], how: Adaptation) -> None:
        # Where decay is added to the gradient, the scale has been applied before.
        scale = 1.0 if how.weight_decay else how.gradient_scale
        self._constants = fixed_scalars(
            dtype,
            how.beta1,
            (1 - how.beta1) * scale,
            how.beta2,
            (1 - how.beta2) * scale * scale,
        )
        self._eps = np.array(how.eps, dtype)
        self._pull = np.array(how.pull, dtype)
        self._keep = None if how.keep == 1.0 else np.array(how.keep, dtype)

    def __call__(
        self,
        w: Array,
        g: Array,
        m: Array,
        v: Array,
        t: Array,
        ahead: Array | None = None,
    ) -> None:
        beta1, share1, beta2, share2 = self._constants
        np.multiply(g, share1, t)
        np.multiply(m, beta1, m)
        np.add(m, t, m)
        mean = m
        if ahead is not None:
            mean = ahead
            np.add(np.multiply(m, beta1, ahead), t, ahead)
        np.multiply(g, g, t)
        np.multiply(t, share2, t)
        np.multiply(v, beta2, v)
        np.add(v, t, v)
        np.sqrt(v, t)
        np.add(t, self._eps, t)
        np.divide(mean, t, t)
        np.multiply(t, self._pull, t)
        if self._keep is not None:
            np.multiply(w, self._keep, w)
        np.subtract(w, t, w)
