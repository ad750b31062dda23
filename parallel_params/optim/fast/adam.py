"""Adam's update as one loop over memory; operation by operation that of NumPy's form.

Nothing is added up over elements and nothing contracted, so the bits are NumPy's.
"""

import numpy as np

from parallel_params.optim.rules import adam
from parallel_params.tensor.fast.compiler import compiled, fits, numbers
from parallel_params.tensor.tape import Array


def adapt(
    weight: Array, gradient: Array, mean: Array, square: Array, how: "adam.Adaptation"
) -> None:
    """Do what `rules.adam.adapt` does."""
    if not fits((weight, gradient, mean, square)):
        adam.adapt.numpy(weight, gradient, mean, square, how)
        return
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
    loop(weight, gradient, mean, square, constants, how.use_nesterov)


@compiled("void(T[::1], T[::1], T[::1], T[::1], T[::1], boolean)")
def _plain(
    w: Array, g: Array, m: Array, v: Array, constants: Array, use_nesterov: bool
) -> None:
    beta1, share1 = constants[0], constants[1]
    beta2, share2 = constants[2], constants[3]
    eps, pull = constants[4], constants[5]
    keep = constants[6]
    for i in range(w.size):
        t = g[i] * share1
        mean = m[i] * beta1 + t
        m[i] = mean
        if use_nesterov:
            mean = mean * beta1 + t
        square = v[i] * beta2 + g[i] * g[i] * share2
        v[i] = square
        w[i] = w[i] * keep - mean / (np.sqrt(square) + eps) * pull


@compiled("void(T[::1], T[::1], T[::1], T[::1], T[::1], boolean)")
def _decayed(
    w: Array, g: Array, m: Array, v: Array, constants: Array, use_nesterov: bool
) -> None:
    beta1, share1 = constants[0], constants[1]
    beta2, share2 = constants[2], constants[3]
    eps, pull = constants[4], constants[5]
    keep = constants[6]
    decay, scale = constants[7], constants[8]
    for i in range(w.size):
        d = w[i] * decay + g[i] * scale
        t = d * share1
        mean = m[i] * beta1 + t
        m[i] = mean
        if use_nesterov:
            mean = mean * beta1 + t
        square = v[i] * beta2 + d * d * share2
        v[i] = square
        w[i] = w[i] * keep - mean / (np.sqrt(square) + eps) * pull
