"""Looking for the first operator that made, or was given, what is no finite number.

    with pp.debug.check_finite():
        loss = net(x)

Off, it costs a look at one attribute per operator. On, every result is read once more,
and every operand. Only the thread that asked is watched.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from parallel_params.errors import NonFiniteValue
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.whereabouts import find_place
from parallel_params.tensor.dtype import dtype_of
from parallel_params.tensor.tape import Array, Tracked, local


@contextmanager
def check_finite(*, infinite: bool = True) -> Iterator[None]:
    """Raise where an operator in this block makes, or is given, what is not finite.

    Forward passes are watched, those of recomputed cells in backward included; of the
    gradients, `Policy(non_finite=...)` tells.

    Args:
        infinite: whether infinities count too; else only what is no number does. Masks
            of infinities, say, are meant.

    Raises:
        NonFiniteValue: names the operator, the cell, the shapes and the first element.
    """

    def watch(out: Tracked, inputs: tuple[Tracked, ...]) -> None:
        for i, operand in enumerate(inputs):
            index = _first_bad(operand._array, infinite)
            if index is not None:
                named = f" ({operand.name!r})" if isinstance(operand, Parameter) else ""
                _refuse(f"was given, as operand {i}{named},", operand, index, inputs)
        index = _first_bad(out._array, infinite)
        if index is not None:
            _refuse("made", out, index, inputs)

    here = local.recording
    outer, here.watch = here.watch, watch
    try:
        yield
    finally:
        here.watch = outer


def _first_bad(array: Array, infinite: bool) -> tuple[int, ...] | None:
    """Return the index of the first element that is not finite, or None."""
    if not dtype_of(array.dtype).is_float:
        return None
    is_bad = ~np.isfinite(array) if infinite else np.isnan(array)
    if not is_bad.any():
        return None
    return tuple(int(i) for i in np.unravel_index(np.argmax(is_bad), array.shape))


def _refuse(
    what: str, found: Tracked, index: tuple[int, ...], inputs: tuple[Tracked, ...]
) -> None:
    operator, path = find_place(sys._getframe(2))
    shapes = " and ".join(str(each._array.shape) for each in inputs) or "none"
    where = f" in cell {path}" if path else ""
    raise NonFiniteValue(
        f"{operator}{where} {what} {found._array[index]} at index {index} of shape "
        f"{found._array.shape}; the shapes of its operands are {shapes}"
    )
