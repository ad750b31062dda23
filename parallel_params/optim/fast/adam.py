"""Adam's update as one loop over memory; operation by operation that of NumPy's form.

Nothing is added up over elements and nothing contracted, so the bits are NumPy's.
"""

import numpy as np

from parallel_params.optim.rules import adaptation
from parallel_params.tensor.fast.compiler import compiled, fits
from parallel_params.tensor.tape import Array

# Of one step; a tuple is handed over faster than an array.
_NUMBERS = "UniTuple(float64, 9)"


def adapt(
    weight: Array,
    gradient: Array,
    mean: Array,
    square: Array,
    how: "adaptation.Adaptation",
) -> None:
    """Do what `rules.adaptation.adapt` does."""
    if not fits((weight, gradient, mean, square)):
        adaptation.adapt.numpy(weight, gradient, mean, square, how)
        return
    _run(weight, gradient, gradient, mean, square, how, is_pair=False)


def adapt_pair(
    weight: Array,
    left: Array,
    right: Array,
    mean: Array,
    square: Array,
    how: "adaptation.Adaptation",
) -> None:
    """Do what `rules.adaptation.adapt_pair` does."""
    if not fits((weight, left, right, mean, square)):
        adaptation.adapt_pair.numpy(weight, left, right, mean, square, how)
        return
    _run(weight, left, right, mean, square, how, is_pair=True)


def _run(
    weight: Array,
    left: Array,
    right: Array,
    mean: Array,
    square: Array,
    how: "adaptation.Adaptation",
    *,
    is_pair: bool,
) -> None:
    scale = 1.0 if how.weight_decay else how.gradient_scale
    numbers = (
        how.beta1,
        (1 - how.beta1) * scale,
        how.beta2,
        (1 - how.beta2) * scale * scale,
        how.eps,
        how.pull,
        how.keep,
        how.weight_decay,
        how.gradient_scale,
    )
    loop = _decayed if how.weight_decay else _plain
    loop(weight, left, right, mean, square, numbers, how.use_nesterov, is_pair)


@compiled(
    "void(T[::1], T[::1], T[::1], T[::1], T[::1], " + _NUMBERS + ", boolean, boolean)"
)
def _plain(
    w: Array,
    left: Array,
    right: Array,
    m: Array,
    v: Array,
    numbers: tuple[float, ...],
    use_nesterov: bool,
    is_pair: bool,
) -> None:
    kind = w.dtype.type
    beta1, share1 = kind(numbers[0]), kind(numbers[1])
    beta2, share2 = kind(numbers[2]), kind(numbers[3])
    eps, pull, keep = kind(numbers[4]), kind(numbers[5]), kind(numbers[6])
    for i in range(w.size):
        g = left[i]
        if is_pair:
            g = g + right[i]
        t = g * share1
        mean = m[i] * beta1 + t
        m[i] = mean
        if use_nesterov:
            mean = mean * beta1 + t
        square = v[i] * beta2 + g * g * share2
        v[i] = square
        w[i] = w[i] * keep - mean / (np.sqrt(square) + eps) * pull


@compiled(
    "void(T[::1], T[::1], T[::1], T[::1], T[::1], " + _NUMBERS + ", boolean, boolean)"
)
def _decayed(
    w: Array,
    left: Array,
    right: Array,
    m: Array,
    v: Array,
    numbers: tuple[float, ...],
    use_nesterov: bool,
    is_pair: bool,
) -> None:
    kind = w.dtype.type
    beta1, share1 = kind(numbers[0]), kind(numbers[1])
    beta2, share2 = kind(numbers[2]), kind(numbers[3])
    eps, pull, keep = kind(numbers[4]), kind(numbers[5]), kind(numbers[6])
    decay, scale = kind(numbers[7]), kind(numbers[8])
    for i in range(w.size):
        g = left[i]
        if is_pair:
            g = g + right[i]
        d = w[i] * decay + g * scale
        t = d * share1
        mean = m[i] * beta1 + t
        m[i] = mean
        if use_nesterov:
            mean = mean * beta1 + t
        square = v[i] * beta2 + d * d * share2
        v[i] = square
        w[i] = w[i] * keep - mean / (np.sqrt(square) + eps) * pull
