"""Adam's update as one loop over memory; operation by operation that of NumPy's form.

Nothing is added up over elements and nothing contracted, so the bits are NumPy's.
"""

import numpy as np

from parallel_params.optim.rules import adaptation
from parallel_params.tensor.fast.compiler import compiled, fits, numbers
from parallel_params.tensor.tape import Array


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
    constants = numbers(
        weight.dtype,
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
    loop(weight, left, right, mean, square, constants, how.use_nesterov, is_pair)


@compiled("void(T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], boolean, boolean)")
def _plain(
    w: Array,
    left: Array,
    right: Array,
    m: Array,
    v: Array,
    constants: Array,
    use_nesterov: bool,
    is_pair: bool,
) -> None:
    beta1, share1 = constants[0], constants[1]
    beta2, share2 = constants[2], constants[3]
    eps, pull = constants[4], constants[5]
    keep = constants[6]
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


@compiled("void(T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], boolean, boolean)")
def _decayed(
    w: Array,
    left: Array,
    right: Array,
    m: Array,
    v: Array,
    constants: Array,
    use_nesterov: bool,
    is_pair: bool,
) -> None:
    beta1, share1 = constants[0], constants[1]
    beta2, share2 = constants[2], constants[3]
    eps, pull = constants[4], constants[5]
    keep = constants[6]
    decay, scale = constants[7], constants[8]
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
