"""Means over parts of a dim: as many as asked for, whatever its length."""

import numpy as np

from parallel_params.tensor.ops.apply import Operand
from parallel_params.tensor.ops.matmul import matmul
from parallel_params.tensor.ops.pool import checked_input
from parallel_params.tensor.ops.windows import PerDim, per_dim
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def adaptive_avg_pool2d(input: Operand, output_size: PerDim) -> Tensor:
    """Return means over windows that cut every dim into so many parts.

    Part i of n of a dim of length L reaches from i L / n, rounded down, to
    (i + 1) L / n, rounded up.

    Args:
        input: [N, C, H, W].
        output_size: the number of parts: one, or one for H and one for W.

    Returns:
        [N, C, OH, OW].

    Raises:
        TypeError: the elements are not floating point.
        ValueError: the input has other dims, or a dim of no elements.
    """
    x = checked_input("adaptive_avg_pool2d", 2, input)
    sizes = per_dim("adaptive_avg_pool2d: output_size", output_size, 2, least=1)
    height, width = (
        Tensor.wrap(_means(length, parts, x._array.dtype))
        for length, parts in zip(x.shape[2:], sizes, strict=True)
    )
    return matmul(height, matmul(x, width.transpose()))


def adaptive_avg_pool1d(input: Operand, output_size: int) -> Tensor:
    """Return means over parts of input [N, C, L]; see `adaptive_avg_pool2d`."""
    x = checked_input("adaptive_avg_pool1d", 1, input)
    (size,) = per_dim("adaptive_avg_pool1d: output_size", output_size, 1, least=1)
    return matmul(x, Tensor.wrap(_means(x.shape[2], size, x._array.dtype).T))


def _means(length: int, num_parts: int, dtype: "np.dtype[np.generic]") -> Array:
    """Return the matrix [parts, length] that takes means over the parts of a dim."""
    weights = np.zeros((num_parts, length), dtype)
    for i in range(num_parts):
        part = slice(i * length // num_parts, -(-(i + 1) * length // num_parts))
        weights[i, part] = 1 / (part.stop - part.start)
    return weights
