"""Gradients as a list of arrays, whatever was asked for."""

from collections.abc import Callable

from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.tape import Array


def gradients_of(
    fn: Callable[..., Tensor],
    *inputs: Tensor,
    seed: Tensor | None = None,
    wanted: tuple[int, ...] | None = None,
) -> list[Array]:
    """Return the gradients of the sum of `fn`, elements weighted by `seed`.

    Args:
        fn: of the inputs.
        inputs: where.
        seed: of the shape of the result; ones by default.
        wanted: positions of the inputs; all by default.
    """

    def total(*given: Tensor) -> Tensor:
        out = fn(*given)
        return (out if seed is None else out * seed).sum()

    positions = tuple(range(len(inputs))) if wanted is None else wanted
    _, gradients = value_and_grad(total, positions)(*inputs)
    parts = gradients if isinstance(gradients, tuple) else (gradients,)
    return [part.asnumpy() for part in parts if isinstance(part, Tensor)]
