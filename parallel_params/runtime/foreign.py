"""Gradients that were computed elsewhere: checked, then copied into the arenas.

They may come from a hand-written adjoint, from finite differences or from another
framework on the CPU: whatever NumPy can read as an array.
"""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from parallel_params.runtime.arena import Arena


def place_gradients(
    gradients: Mapping[str, object],
    arenas: Sequence[Arena],
    num_absent: dict[str, int],
) -> None:
    """Write gradients into partial 0 of the arenas; what is absent counts as zero.

    Args:
        gradients: by parameter name, in the parameter's shape; a view of the arena
            itself is left where it is.
        arenas: of the trainable buckets.
        num_absent: by name, raised by one for every parameter without a gradient.

    Raises:
        KeyError: a name that is no trained parameter's, with the nearest names.
        ValueError: a gradient of another shape than its parameter.
        TypeError: a gradient that is not made of real numbers.
    """
    sinks = {
        extent.name: view
        for arena in arenas
        for extent, view in zip(arena.bucket.extents, arena.gradients[0], strict=True)
    }
    for name in gradients:
        if name not in sinks:
            near = difflib.get_close_matches(name, sinks, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise KeyError(f"{name!r} is not the name of a trained parameter{hint}")
    for name, sink in sinks.items():
        if name not in gradients:
            sink.fill(0)
            num_absent[name] = num_absent.get(name, 0) + 1
            continue
        _place(name, np.asarray(gradients[name]), sink)


def _place(
    name: str,
    gradient: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]",
    sink: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]",
) -> None:
    if gradient.shape != sink.shape:
        raise ValueError(
            f"{name}: the gradient has shape {gradient.shape}, "
            f"the parameter {sink.shape}"
        )
    if not np.can_cast(gradient.dtype, sink.dtype, casting="same_kind"):
        raise TypeError(
            f"{name}: a gradient of {gradient.dtype} cannot be added to a parameter of "
            f"{sink.dtype}; pass real floating-point numbers"
        )
    if gradient is not sink:
        np.copyto(sink, gradient, casting="same_kind")
