"""Differentiable collectives along an axis: how an activation enters and leaves a cut.

A tensor is *whole* along an axis when every rank has the same values, and *cut* when
each has its part of one dim. Each operator here changes the one into the other, and its
derivative is the opposite change. A pair of them, one on each side of the arithmetic
that is cut, makes gradients of whole tensors whole and equal on every rank.

| operator | forward | backward |
|---|---|---|
| `enter` | nothing: whole, read by cut cells | sum |
| `leave` | sum of what the ranks have, whole | nothing |
| `enter_cut` | own part of a whole tensor | join the parts |
| `leave_cut` | join the parts of a cut tensor, whole | own part |
| `join` | join parts of a cut tensor, read by cut cells | sum, own part of it |
| `sum_cut` | sum, own part of it | join the parts |
| `exchange` | the r-th part of every rank's rows to rank r | back |
| `scaled` | nothing | times a factor |

On an axis of one rank all of them are nothing. Second derivatives are not there.

Source: Shoeybi et al., Megatron-LM (2019), section 3, for `enter` and `leave`;
Korthikanti et al., Reducing activation recomputation (2022), section 4.2.2, for
`join` and `sum_cut`.
"""

import numpy as np

from parallel_params.nn.parallel.axis import Axis
from parallel_params.tensor.ops.apply import result
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def enter(x: Tensor, axis: Axis) -> Tensor:
    """Return x, whole; its gradient is the sum of what the ranks' cut cells say.

    Collective: the ranks along the axis, in backward.
    """
    if axis.size == 1:
        return x
    return result(x._array, (x,), lambda g: (axis.all_reduce(g, "gradient of enter"),))


def leave(x: Tensor, axis: Axis) -> Tensor:
    """Return the sum of the ranks' tensors, added in a fixed order.

    Collective: the ranks along the axis.
    """
    if axis.size == 1:
        return x
    return result(axis.all_reduce(x._array, "leave"), (x,), lambda g: (g,))


def enter_cut(x: Tensor, axis: Axis, dim: int = -1) -> Tensor:
    """Return this rank's part of a whole tensor along `dim`.

    Raises:
        PlanError: the dim cannot be cut into equal parts.

    Collective: the ranks along the axis, in backward.
    """
    if axis.size == 1:
        return x
    own = _own(x._array, axis, dim, "enter_cut")
    return result(
        own, (x,), lambda g: (axis.all_gather(g, dim, "gradient of enter_cut"),)
    )


def leave_cut(x: Tensor, axis: Axis, dim: int = -1) -> Tensor:
    """Return the ranks' parts joined along `dim`, whole on every rank.

    Collective: the ranks along the axis.
    """
    if axis.size == 1:
        return x
    out = axis.all_gather(x._array, dim, "leave_cut")
    return result(out, (x,), lambda g: (_own(g, axis, dim, "leave_cut"),))


def join(x: Tensor, axis: Axis, dim: int = 0) -> Tensor:
    """Return the ranks' parts joined along `dim`, for cells that are cut themselves.

    Collective: the ranks along the axis, in backward too.
    """
    if axis.size == 1:
        return x
    return result(
        axis.all_gather(x._array, dim, "join"),
        (x,),
        lambda g: (axis.reduce_scatter(g, dim, "gradient of join"),),
    )


def sum_cut(x: Tensor, axis: Axis, dim: int = 0) -> Tensor:
    """Return this rank's part along `dim` of the sum of the ranks' tensors.

    Raises:
        PlanError: the dim cannot be cut into equal parts.

    Collective: the ranks along the axis, in backward too.
    """
    if axis.size == 1:
        return x
    return result(
        axis.reduce_scatter(x._array, dim, "sum_cut"),
        (x,),
        lambda g: (axis.all_gather(g, dim, "gradient of sum_cut"),),
    )


def exchange(x: Tensor, axis: Axis) -> Tensor:
    """Return the parts along dim 0 that the ranks have for this one, rank after rank.

    Twice is nothing: rows come back to where they came from.

    Args:
        x: [ranks * n, ...]; rows r * n to (r + 1) * n are for rank r.
        axis: along which the rows travel.

    Raises:
        PlanError: dim 0 cannot be cut into equal parts.

    Collective: the ranks along the axis, in backward too.
    """
    if axis.size == 1:
        return x
    length = axis.part_of(x.shape[0], "exchange: dim 0")
    counts = (length.stop - length.start,) * axis.size
    return result(
        axis.all_to_all(x._array, counts, "exchange"),
        (x,),
        lambda g: (axis.all_to_all(g, counts, "gradient of exchange"),),
    )


def scaled(x: Tensor, factor: float) -> Tensor:
    """Return x; its gradient is multiplied by `factor`."""
    if factor == 1.0:
        return x
    return result(
        x._array, (x,), lambda g: (np.multiply(g, np.asarray(factor, g.dtype)),)
    )


def _own(array: Array, axis: Axis, dim: int, what: str) -> Array:
    dim = dim % array.ndim
    part = axis.part_of(array.shape[dim], f"{what}: dim {dim}")
    return np.ascontiguousarray(array[(slice(None),) * dim + (part,)])
