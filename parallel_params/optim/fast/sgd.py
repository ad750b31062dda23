"""Gradient descent as one loop over memory, operation by operation as in NumPy.

Nothing is added up over elements and nothing contracted, so the bits are NumPy's.
"""

from parallel_params.optim.rules import sgd
from parallel_params.tensor.fast.compiler import compiled, fits, numbers
from parallel_params.tensor.tape import Array


def descend(weight: Array, gradient: Array, how: "sgd.Descent") -> None:
    """Do what `rules.sgd.descend` does."""
    if not fits((weight, gradient)):
        sgd.descend.numpy(weight, gradient, how)
        return
    _descend(weight, gradient, numbers(weight.dtype, how.pull_gradient, how.keep))


def descend_with_momentum(
    weight: Array, gradient: Array, accum: Array, how: "sgd.Descent"
) -> None:
    """Do what `rules.sgd.descend_with_momentum` does."""
    if not fits((weight, gradient, accum)):
        sgd.descend_with_momentum.numpy(weight, gradient, accum, how)
        return
    constants = numbers(
        weight.dtype,
        how.momentum,
        how.share * how.gradient_scale,
        how.share * how.weight_decay,
        how.pull_accum,
        how.pull_gradient,
        how.keep,
    )
    has_decay = how.weight_decay != 0
    _descend_with_momentum(
        weight, gradient, accum, constants, has_decay, how.is_nesterov
    )


@compiled("void(T[::1], T[::1], T[::1])")
def _descend(w: Array, g: Array, constants: Array) -> None:
    pull, keep = constants[0], constants[1]
    for i in range(w.size):
        w[i] = w[i] * keep - g[i] * pull


@compiled("void(T[::1], T[::1], T[::1], T[::1], boolean, boolean)")
def _descend_with_momentum(
    w: Array,
    g: Array,
    a: Array,
    constants: Array,
    has_decay: bool,
    is_nesterov: bool,
) -> None:
    momentum, add_gradient = constants[0], constants[1]
    add_weight, pull = constants[2], constants[3]
    pull_gradient, keep = constants[4], constants[5]
    for i in range(w.size):
        accum = a[i] * momentum + g[i] * add_gradient
        if has_decay:
            accum = accum + w[i] * add_weight
        a[i] = accum
        weight = w[i]
        if is_nesterov:
            if has_decay:
                weight = weight * keep
            weight = weight - g[i] * pull_gradient
        w[i] = weight - accum * pull
