"""Gradients given by hand: do they fit the parameters?"""

from collections.abc import Sequence

from parallel_params.errors import GradientError
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def check_gradients(
    gradients: object, parameters: Sequence[Parameter]
) -> tuple[Array, ...]:
    """Return the arrays of the gradients, in the order of the parameters.

    Raises:
        GradientError: they are no tuple of Tensors, or too few, or too many, or one is
            not of its parameter's shape or not of a floating-point type.
    """
    if not isinstance(gradients, tuple):
        raise GradientError(
            f"an optimizer takes a tuple with one gradient per parameter, not a "
            f"{type(gradients).__name__}; value_and_grad(fn, None, "
            "optimizer.parameters) returns such a tuple"
        )
    if len(gradients) != len(parameters):
        raise GradientError(
            f"an optimizer of {len(parameters)} parameters was given {len(gradients)} "
            f"gradients; {_first_unmatched(gradients, parameters)}"
        )
    pairs = enumerate(zip(gradients, parameters, strict=True))
    return tuple(_check(index, given, p) for index, (given, p) in pairs)


def _first_unmatched(
    gradients: tuple[object, ...], parameters: Sequence[Parameter]
) -> str:
    if len(gradients) < len(parameters):
        return f"there is none for parameter {parameters[len(gradients)].name!r}"
    return f"the last parameter is {parameters[-1].name!r}"


def _check(index: int, gradient: object, parameter: Parameter) -> Array:
    what = f"gradient {index}, for parameter {parameter.name!r},"
    if not isinstance(gradient, Tensor):
        raise GradientError(f"{what} must be a Tensor, not a {type(gradient).__name__}")
    if gradient.shape != parameter.shape:
        raise GradientError(
            f"{what} must have the shape {parameter.shape}, and has {gradient.shape}"
        )
    if not gradient.dtype.is_float:
        raise GradientError(
            f"{what} must be of a floating-point type, and is {gradient.dtype}"
        )
    return gradient.asnumpy()
