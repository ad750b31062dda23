"""Taking elements by index, and putting gradients back where they came from.

`taken` and `_put` are each other's derivative, so every order is there.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from parallel_params.tensor import tape
from parallel_params.tensor.embedding_kernels import add_rows
from parallel_params.tensor.ops.apply import (
    Operand,
    as_operand,
    cast,
    note_write,
    result,
)
from parallel_params.tensor.ops.dims import as_dim
from parallel_params.tensor.ops.value import unbroadcast
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

# int, slice, ellipsis, None, integer or boolean arrays, or a tuple of them: NumPy's.
Index: TypeAlias = Any


def getitem(x: Tensor, index: object) -> Tensor:
    """Return the elements at `index`, which may be all that NumPy's may; a copy.

    Raises:
        IndexError: an index is out of range, of floating point, or one too many.
    """
    out = taken(x, _as_index(index))
    if out._array.base is not None:
        out._array = out._array.copy()
    return out


def taken(x: Tensor, index: Index) -> Tensor:
    """Return the elements at a NumPy index; a view where NumPy gives one."""
    array = x._array
    shape = array.shape
    try:
        out = array[index]
    except IndexError as error:
        raise IndexError(f"a tensor of shape {shape}: {error}") from None
    return result(
        out,
        (x,),
        lambda g: (_put_array(g, index, shape),),
        lambda g, *_: (_put(g, index, shape),),
    )


def _put(g: Tensor, index: Index, shape: tuple[int, ...]) -> Tensor:
    """Return zeros of `shape` with `g` added at `index`."""
    return result(
        _put_array(g._array, index, shape),
        (g,),
        lambda h: (h[index],),
        lambda h, *_: (taken(h, index),),
    )


def _put_array(g: Array, index: Index, shape: tuple[int, ...]) -> Array:
    out = np.zeros(shape, g.dtype)
    if _is_basic(index):
        out[index] = g
    elif isinstance(index, np.ndarray) and index.dtype.kind in "iu":
        _add_rows(out, index, g)
    else:
        np.add.at(out, index, g)
    return out


def _add_rows(out: Array, rows: Array, g: Array) -> None:
    """Add g[i] to out[rows[i]], which is zero before; rows may repeat."""
    width = out[0].size if len(out) else 0
    if width < _WIDE:
        np.add.at(out, rows, g)
        return
    ids = rows.reshape(-1)
    ids = np.where(ids < 0, ids + len(out), ids) if rows.dtype.kind == "i" else ids
    add_rows(ids, g.reshape(-1, width), out.reshape(len(out), width))


_WIDE = 16  # elements of a row from which on a loop over rows is faster


def _is_basic(index: Index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None
        or part is Ellipsis
        or isinstance(part, slice)
        or (isinstance(part, int | np.integer) and not isinstance(part, bool))
        for part in parts
    )


def _as_index(index: object) -> Index:
    """Turn the tensors and lists in an index into arrays."""
    if isinstance(index, tuple):
        return tuple(_as_index(part) for part in index)
    if isinstance(index, Tensor):
        array = index._array
        # A number in a tensor picks one element, as the number itself would.
        return array.item() if not array.ndim and array.dtype.kind in "iu" else array
    if isinstance(index, list):
        return np.asarray(index, None if index else np.int64)
    return index


def setitem(x: Tensor, index: object, value: Operand) -> None:
    """Write `value`, broadcast and cast, to the elements at `index`.

    A tensor on the tape, or one that was read, gets new memory and its place on the
    tape, so that what has been computed from it keeps its derivative. A leaf keeps its
    memory: a `backward()` that needs the old values is refused.

    Raises:
        IndexError: an index is out of range, of floating point, or one too many.
        ValueError: the shape of `value` does not broadcast to that of the elements.
        RuntimeError: the tensor is a parameter being differentiated by.
    """
    part = as_operand(value, "setitem")
    where = _as_index(index)
    if not (tape.is_tracked(x) or tape.is_tracked(part)):
        note_write(x)
        _write(x._array, where, part._array)
        return
    if type(x) is not Tensor or isinstance(x._node, tape.AccumulatorLeaf):
        if tape.is_recording() or tape.is_tracked(part):
            raise RuntimeError(
                "setitem: this tensor is being differentiated by, or would have to "
                "remember where the value came from; write to it outside of the "
                "gradient call, or use where()"
            )
        note_write(x)
        _write(x._array, where, part._array)
        return
    before = result(x._array, (x,), lambda g: (g,), lambda g, *_: (g,))
    part = cast(part, x._array.dtype)
    array = x._array.copy()
    _write(array, where, part._array)
    shape = part._array.shape

    def vjp(g: Array) -> tuple[Array, Array]:
        rest = g.copy()
        rest[where] = 0
        return rest, unbroadcast(g[where], shape)

    def higher(g: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        picked = taken(g, where)
        return g - _put(picked, where, array.shape), unbroadcast(picked, shape)

    after = result(array, (before, part), vjp, higher)
    x._array, x._node = after._array, after._node


def _write(array: Array, index: Index, value: Array) -> None:
    try:
        array[index] = value
    except IndexError as error:
        raise IndexError(f"a tensor of shape {array.shape}: {error}") from None
    except ValueError:
        raise ValueError(
            f"setitem: a value of shape {value.shape} does not fit the elements of "
            f"shape {array[index].shape}"
        ) from None


def iterate(x: Tensor) -> Iterator[Tensor]:
    """Yield the parts of the tensor along its first dim.

    Raises:
        TypeError: the tensor is 0-d.
    """
    if not x._array.ndim:
        raise TypeError("a 0-d tensor has no parts to iterate over")
    return (getitem(x, i) for i in range(len(x._array)))


def gather(
    input_params: Operand, input_indices: Operand, axis: int = 0, batch_dims: int = 0
) -> Tensor:
    """Return the slices of `input_params` along `axis` at `input_indices`.

    Args:
        input_params: [..., n, ...] with n at `axis`.
        input_indices: integers in [-n, n), of any shape.
        axis: the dim to take along, behind the batch dims.
        batch_dims: how many leading dims the two share: each part of the one is taken
            by its own part of the other. Negative ones count from the indices' end.

    Returns:
        `input_params`' shape with n replaced by the shape of the indices, that without
        its batch dims.

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is out of range.
        ValueError: `axis` is a batch dim, or the batch dims differ.
    """
    x = as_operand(input_params, "gather")
    indices = _as_indices(input_indices, "gather")
    dim = as_dim(axis, x._array.ndim, "gather")
    if batch_dims:
        return taken(x, _batch_index(x._array.shape, indices, dim, batch_dims))
    return taken(x, indices if not dim else (slice(None),) * dim + (indices,))


def _batch_index(
    shape: tuple[int, ...], indices: Array, dim: int, batch_dims: int
) -> Index:
    """Return NumPy's index for a gather whose leading dims belong together."""
    num_batch = batch_dims + indices.ndim if batch_dims < 0 else batch_dims
    if not 0 <= num_batch <= min(dim, indices.ndim):
        raise ValueError(
            f"gather: batch_dims {batch_dims} does not fit axis {dim} and indices of "
            f"{indices.ndim} dims: it is at most each of them"
        )
    batch = shape[:num_batch]
    if indices.shape[:num_batch] != batch:
        raise ValueError(
            f"gather: the first {num_batch} dims of a tensor of shape {shape} and of "
            f"indices of shape {indices.shape} must be the same"
        )
    own = indices.shape[num_batch:]
    # The dims in front of `dim` count themselves; the indices run behind them.
    counts = np.indices((*shape[:dim], *(1,) * len(own)), sparse=True)[:dim]
    between = (1,) * (dim - num_batch)
    return (*counts, indices.reshape(*batch, *between, *own))


def gather_elements(x: Operand, dim: int, index: Operand) -> Tensor:
    """Return x[i, index[i, j], k] for the element at i, j, k, here with `dim` 1.

    Args:
        x: the elements to take.
        dim: the dim that `index` runs along.
        index: integers in [-n, n), as many dims as `x`, in the others not longer.

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is out of range.
        ValueError: the shapes do not fit.
    """
    a = as_operand(x, "gather_elements")
    indices = _as_indices(index, "gather_elements")
    shape = a._array.shape
    axis = as_dim(dim, len(shape), "gather_elements")
    fits = len(shape) == indices.ndim and all(
        i == axis or n <= m
        for i, (n, m) in enumerate(zip(indices.shape, shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"gather_elements: an index of shape {indices.shape} does not fit a tensor "
            f"of shape {shape} along dim {axis}"
        )
    where: list[Array] = list(np.indices(indices.shape, sparse=True))
    where[axis] = indices
    return taken(a, tuple(where))


def _as_indices(index: Operand, operator: str) -> Array:
    array = as_operand(index, operator)._array
    if array.dtype.kind not in "iu":
        raise TypeError(f"{operator}: indices must be integers, not {array.dtype.name}")
    return array
