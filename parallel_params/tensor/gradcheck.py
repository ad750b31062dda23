"""Derivatives held against finite differences along one random direction.

One direction finds a wrong derivative with probability 1 and costs two evaluations,
however many inputs there are. This checks functions; it is no way to differentiate.

Source: the idea of a single random direction is HIPS autograd's `check_grads`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from parallel_params.tensor.differentiate import Wanted, differentiate
from parallel_params.tensor.ops.arithmetic import add, mul
from parallel_params.tensor.ops.reduction import sum as sum_of
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

# Central differences of step 1e-6 are good to about 1e-9 in float64, and the second
# order differentiates them once more; a wrong derivative is off by far more than this.
_STEP = 1e-6
_TOLERANCE = 1e-6


def check_grad(
    fn: Callable[..., object],
    *inputs: Tensor,
    order: int = 2,
    seed: int = 0,
    tolerance: float = _TOLERANCE,
) -> None:
    """Compare the derivatives of `fn` with finite differences.

    Args:
        fn: takes the inputs, returns a tensor or a tuple of tensors; smooth near them.
        inputs: where to check, float64.
        order: the highest derivative to check.
        seed: of the random directions.
        tolerance: the largest error, relative to the size of what is compared.

    Raises:
        AssertionError: a derivative is wrong; says of which order, and both numbers.
        TypeError: an input is not float64.

    >>> from parallel_params.tensor import Tensor, float64
    >>> check_grad(lambda x: x * x * x, Tensor([1.0, 2.0], dtype=float64))
    """
    for i, x in enumerate(inputs):
        if x._array.dtype != np.float64:
            raise TypeError(f"input {i} must be float64 to be checked, not {x.dtype}")
    random = np.random.default_rng(seed)
    weights = [random.normal(size=out.shape) for out in _outputs(fn(*inputs))]
    _check(_weighted(fn, weights), inputs, 1, order, random, tolerance)


def _outputs(value: object) -> Sequence[Tensor]:
    outputs = value if isinstance(value, tuple | list) else (value,)
    assert all(isinstance(out, Tensor) for out in outputs), "fn must return tensors"
    return outputs


def _weighted(fn: Callable[..., object], weights: list[Array]) -> Callable[..., Tensor]:
    """Return a function to one number: a random combination of all outputs of `fn`."""

    def combined(*inputs: Tensor) -> Tensor:
        total = Tensor.wrap(np.zeros(()))
        for out, weight in zip(_outputs(fn(*inputs)), weights, strict=True):
            # Casts narrower outputs, so that their rounding does not spoil the sum.
            total = add(total, sum_of(mul(out, Tensor.wrap(weight))))
        return total

    return combined


def _check(
    fn: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    level: int,
    order: int,
    random: np.random.Generator,
    tolerance: float,
) -> None:
    arrays = [x._array for x in inputs]
    steps = [random.normal(size=array.shape) for array in arrays]
    slope = _directional(fn, steps)
    found = float(slope(*inputs))
    above = float(fn(*_moved(arrays, steps, _STEP)))
    below = float(fn(*_moved(arrays, steps, -_STEP)))
    expected = (above - below) / (2 * _STEP)
    scale = max(1.0, abs(expected), abs(found), abs(above))
    assert abs(found - expected) <= tolerance * scale, (
        f"derivative of order {level}: {found!r} along a random direction, where "
        f"finite differences give {expected!r}"
    )
    if level < order:
        _check(slope, inputs, level + 1, order, random, tolerance)


def _directional(
    fn: Callable[..., Tensor], steps: list[Array]
) -> Callable[..., Tensor]:
    """Return the derivative of `fn` along `steps` as a function of the inputs."""
    wanted = Wanted(tuple(range(len(steps))), None)

    def slope(*inputs: Tensor) -> Tensor:
        _, gradients = differentiate(fn, wanted, False, False, inputs, {})
        parts = gradients if isinstance(gradients, tuple) else (gradients,)
        total = Tensor.wrap(np.zeros(()))
        for part, step in zip(parts, steps, strict=True):
            assert isinstance(part, Tensor)
            total = add(total, sum_of(mul(part, Tensor.wrap(step))))
        return total

    return slope


def _moved(arrays: list[Array], steps: list[Array], distance: float) -> list[Tensor]:
    return [
        Tensor.wrap(np.asarray(array + distance * step))
        for array, step in zip(arrays, steps, strict=True)
    ]
