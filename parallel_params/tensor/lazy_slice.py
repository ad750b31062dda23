"""A lazy tensor that is one slice of a larger one which nobody ever makes.

The rank that holds a slice of a weight draws just its own part of the numbers that one
rank would draw for the whole: a model starts from the same weights however it is cut.
"""

import math

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import (
    Init,
    LazyTensor,
    as_initializer,
    checked_shape,
)
from parallel_params.tensor.tensor import Tensor


class LazySlice(LazyTensor):
    """Indices `start` to `stop` along one dim of a tensor of a law.

    Args:
        init: a law, the name of one, or a number; a tensor has no law to slice.
        shape: of the whole tensor.
        dtype: element type.
        dim: which is cut.
        start: first index along it.
        stop: one past the last.

    Raises:
        TypeError: `init` is a tensor or nothing that stands for a law.
        ValueError: an unknown law, or a shape it cannot fill.
    """

    __slots__ = ("_run", "_skip", "_whole_run", "_whole_shape")

    def __init__(
        self,
        init: Init,
        shape: tuple[int, ...],
        dtype: DType = float32,
        *,
        dim: int,
        start: int,
        stop: int,
    ) -> None:
        if isinstance(init, Tensor):
            raise TypeError(
                "a slice is made from a law, such as 'normal', not from a Tensor; give "
                "the slice itself to the parameter with set_data"
            )
        whole = checked_shape(shape)
        super().__init__(as_initializer(init), whole, dtype)
        self._whole_shape = whole
        self._shape = (*whole[:dim], stop - start, *whole[dim + 1 :])
        # Elements that lie side by side in both: one run per index of the outer dims.
        inner = math.prod(whole[dim + 1 :])
        self._run, self._whole_run = (stop - start) * inner, whole[dim] * inner
        self._skip = start * inner

    def fill(self, start: int, stop: int, *, out: NDArray[np.generic]) -> None:
        """Write elements [start, stop) of the slice into `out`; see `LazyTensor`."""
        at = start
        while at < stop:
            outer, inner = divmod(at, self._run)
            end = min(stop, (outer + 1) * self._run)
            first = outer * self._whole_run + self._skip + inner
            self._draw(
                self._whole_shape,
                first,
                first + end - at,
                out[at - start : end - start],
            )
            at = end
