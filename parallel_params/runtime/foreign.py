"""Gradients that were computed elsewhere: checked, then copied into the arenas.

They may come from a hand-written adjoint, from finite differences or from another
framework on the CPU: whatever NumPy can read as an array.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from parallel_params.nn.parameter import Parameter
from parallel_params.plan.text import did_you_mean
from parallel_params.runtime.arena import Arena
from parallel_params.tensor.tape import Array


def check_gradients(
    gradients: Mapping[str, object], parameters: Mapping[str, Parameter]
) -> dict[str, Array]:
    """Return the gradients as arrays, if each fits its parameter.

    Args:
        gradients: by parameter name, in the parameter's shape.
        parameters: the trained ones, by name.

    Raises:
        KeyError: a name that is no trained parameter's, with names that are.
        ValueError: a gradient of another shape than its parameter.
        TypeError: a gradient that is not made of real numbers, or no mapping at all.
    """
    if not isinstance(gradients, Mapping):
        raise TypeError(
            "update takes a mapping from parameter names to gradients, not "
            f"{type(gradients).__name__}"
        )
    for name in gradients:
        if name not in parameters:
            hint = did_you_mean(str(name), parameters)
            raise KeyError(f"{name!r} is not the name of a trained parameter. {hint}")
    arrays = {name: np.asarray(gradient) for name, gradient in gradients.items()}
    for name, array in arrays.items():
        _check(name, array, parameters[name])
    return arrays


def fill_views(
    arena: Arena, views: Sequence[Array], gradients: Mapping[str, Array]
) -> None:
    """Write the gradients of an arena into its views; what is absent counts as zero."""
    for extent, view in zip(arena.bucket.extents, views, strict=True):
        gradient = gradients.get(extent.name)
        if gradient is None:
            view.fill(0)
        elif gradient.__array_interface__ != view.__array_interface__:
            # Else it is there: `value_and_grad` hands out views of the arenas.
            np.copyto(view, gradient, casting="same_kind")


def _check(name: str, gradient: Array, parameter: Parameter) -> None:
    if gradient.shape != parameter.shape:
        raise ValueError(
            f"{name}: the gradient has shape {gradient.shape}, "
            f"the parameter {parameter.shape}"
        )
    dtype = parameter.dtype.numpy
    if not np.can_cast(gradient.dtype, dtype, casting="same_kind"):
        raise TypeError(
            f"{name}: a gradient of {gradient.dtype} cannot be added to a parameter of "
            f"{dtype}; pass real floating-point numbers"
        )
