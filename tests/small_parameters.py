"""Parameters, gradients and optimizers small enough to write down."""

from collections.abc import Sequence

import numpy as np

from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.tensor import Tensor


def parameter(name: str = "w", values: Sequence[float] = (1.0, 2.0)) -> Parameter:
    """Return a float32 parameter."""
    return Parameter(Tensor(np.array(values, np.float32)), name=name)


def parameters(names: str = "ab") -> list[Parameter]:
    """Return one parameter [1, 2] per letter."""
    return [parameter(name) for name in names]


def ones(params: Sequence[Parameter]) -> tuple[Tensor, ...]:
    """Return gradients of ones."""
    return tuple(Tensor(np.ones(p.shape, np.float32)) for p in params)
