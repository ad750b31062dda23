"""Rows of a table by their numbers, and the gradient of the table."""

import numpy as np

from parallel_params.tensor import tape
from parallel_params.tensor.embedding_kernels import add_rows
from parallel_params.tensor.ids import are_in_range, first_out_of_range
from parallel_params.tensor.ops.apply import Operand, as_operand, cast, result
from parallel_params.tensor.ops.compare import where
from parallel_params.tensor.ops.convert import stop_gradient
from parallel_params.tensor.ops.indexing import taken
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def embedding(
    input: Operand, weight: Operand, padding_idx: int | None = None
) -> Tensor:
    """Return the rows of `weight` whose numbers `input` holds.

    Args:
        input: integers in [0, rows), of any shape.
        weight: [rows, width].
        padding_idx: a row whose gradient is zero; negative ones count from the end.

    Returns:
        [*shape of input, width].

    Raises:
        TypeError: the numbers are not integers.
        IndexError: a number is out of range; names the first of them and its place.
        ValueError: `weight` is no matrix, or `padding_idx` is none of its rows.
    """
    ids, table = _checked(input, as_operand(weight, "embedding"), padding_idx)
    array, node = table._array, table._node
    padding = None if padding_idx is None else padding_idx % len(array)
    if tape.is_nested():
        return _plain_embedding(ids, table, padding)
    # The range is checked; "clip" skips NumPy's own check.
    out = array.take(ids, 0, mode="clip")

    def vjp(g: Array) -> tuple[Array]:
        sink = None if node is None else node.sink()
        return (_table_grad(g, ids, array, padding, sink),)

    return result(out, (table,), vjp)


def _table_grad(
    g: Array, ids: Array, table: Array, padding: int | None, sink: Array | None
) -> Array:
    """Return the gradient of the table, in `sink` if there is one."""
    rows = g.reshape(-1, table.shape[1])
    if g.itemsize == 2:
        # Sums of 16 bits lose what they add up; in float32 they are rounded once.
        wide = np.empty(table.shape, np.float32)
        add_rows(ids.reshape(-1), rows.astype(np.float32), wide)
        out = wide.astype(g.dtype)
        if sink is not None:
            np.copyto(sink, out)
            out = sink
    else:
        out = np.empty(table.shape, g.dtype) if sink is None else sink
        add_rows(ids.reshape(-1), rows, out)
    if padding is not None:
        out[padding] = 0
    return out


def _plain_embedding(ids: Array, table: Tensor, padding: int | None) -> Tensor:
    """The same out of single operators, which have every order."""
    picked = taken(table, ids)
    if padding is None:
        return picked
    is_padding = Tensor.wrap(np.asarray(ids == padding)[..., None])
    return cast(where(is_padding, stop_gradient(picked), picked), picked._array.dtype)


def _checked(
    input: Operand, table: Tensor, padding_idx: int | None
) -> tuple[Array, Tensor]:
    ids = as_operand(input, "embedding")._array
    shape = table._array.shape
    if len(shape) != 2:
        raise ValueError(f"embedding: weight must be [rows, width], not {shape}")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: numbers of rows are integers, not {ids.dtype}")
    if padding_idx is not None and not -shape[0] <= padding_idx < shape[0]:
        raise ValueError(
            f"embedding: padding_idx {padding_idx} is none of the {shape[0]} rows"
        )
    if not are_in_range(ids, shape[0]):
        wrong, place = first_out_of_range(ids, shape[0])
        raise IndexError(
            f"embedding: number {wrong} at {place} is none of the {shape[0]} rows, "
            f"which count from 0 to {shape[0] - 1}"
        )
    return ids.astype(np.intp, copy=False), table
