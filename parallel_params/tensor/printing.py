"""How a tensor prints: `repr` spells values as MindSpore does, digit for digit.

Values of 1-d tensors are broken into lines, those of more dims are elided to the first
and last three of every dim.
"""

import numpy as np

from parallel_params.tensor.dtype import dtype_of
from parallel_params.tensor.tape import Array

_EDGE = 3  # entries shown at either end of a dim that is elided
_LONG_ROW = 1000  # entries from which on a 1-d tensor is elided, too


def representation(array: Array) -> str:
    """Return the `repr` of a tensor over `array`.

    >>> print(representation(np.ones((1, 2), np.float32)))
    Tensor(shape=[1, 2], dtype=Float32, value=
    [[ 1.00000000e+00,  1.00000000e+00]])
    """
    gap = "\n" if array.ndim > 1 and array.size else " "
    return (
        f"Tensor(shape={list(array.shape)}, dtype={dtype_of(array.dtype)}, "
        f"value={gap}{_values(array)})"
    )


def _values(array: Array) -> str:
    if not array.size:
        return ""
    if not array.ndim:
        return _number(array)
    shown = array[np.ix_(*(_shown(n, array.ndim) for n in array.shape))]
    texts = np.array([_entry(x) for x in shown.reshape(-1)], dtype=object)
    width = max(len(text) for text in texts)
    padded = np.array([text.rjust(width) for text in texts], dtype=object)
    return _nested(padded.reshape(shown.shape), array.shape, 1)


def _shown(length: int, ndim: int) -> "list[int]":
    if length <= (_LONG_ROW if ndim == 1 else 2 * _EDGE):
        return list(range(length))
    return [*range(_EDGE), *range(length - _EDGE, length)]


def _nested(texts: Array, lengths: tuple[int, ...], depth: int) -> str:
    is_elided = len(texts) < lengths[0]
    if texts.ndim == 1:
        if is_elided:
            head, tail = ", ".join(texts[:_EDGE]), ", ".join(texts[_EDGE:])
            return f"[{head} ... {tail}]"
        return f"[{_lines(texts) if depth == 1 else ', '.join(texts)}]"
    parts = [_nested(part, lengths[1:], depth + 1) for part in texts]
    gap = "\n" + " " * depth
    if not is_elided:
        return "[" + f",{gap}".join(parts) + "]"
    head, tail = f",{gap}".join(parts[:_EDGE]), f",{gap}".join(parts[_EDGE:])
    return f"[{head},{gap}...{gap}{tail}]"


def _lines(texts: Array) -> str:
    """Break the entries of a 1-d tensor into lines of 12, whole numbers of 24."""
    is_whole = "e" not in texts[0].lower()  # nor "True" nor "False": they have an e
    per_line = 24 if is_whole and "n" not in texts[0] else 12
    rows = [texts[i : i + per_line] for i in range(0, len(texts), per_line)]
    return ",\n ".join(", ".join(row) for row in rows)


def _entry(value: "np.generic") -> str:
    if value.dtype.kind == "b":
        return f"{value!s:>5}"
    if value.dtype.kind == "f" and value.dtype.itemsize > 2:
        return f"{float(value): .8e}"
    if value.dtype.kind in "fV":
        return f"{float(value): .4e}"
    return str(value)


def _number(array: Array) -> str:
    if array.dtype.kind in "fV":
        return f"{float(array):g}"
    return str(array.item())
