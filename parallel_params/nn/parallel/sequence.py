"""Norms and dropout on activations that are cut along the sequence.

Between two pairs of cut `Dense` a transformer is the same work on every rank; cut along
the sequence it is done once, and a rank keeps its part of the activations.

Source: Korthikanti et al., Reducing activation recomputation in large transformer
models (2022), section 4.2.2.
"""

import numpy as np

from parallel_params.nn.layers.checks import checked_number
from parallel_params.nn.layers.norm import LayerNorm, RMSNorm
from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.cell import AxisCell
from parallel_params.nn.parallel.passing import enter
from parallel_params.tensor import random
from parallel_params.tensor.ops.dropout import masked
from parallel_params.tensor.ops.norm import layer_norm, rms_norm
from parallel_params.tensor.tensor import Tensor


class SequenceParallelNorm(AxisCell):
    """A norm of rows that are cut along the axis; its weights are whole.

    Each rank sees its own rows, so the gradients of the weights are summed along the
    axis, once per pass.

    Args:
        norm: a `LayerNorm` or `RMSNorm`, whose parameters it has.
        axis: along which the rows are cut.

    Raises:
        TypeError: `norm` is of another type, or `axis` is no Axis.
        PlanError: the axis does not fit its mesh.
    """

    def __init__(self, norm: LayerNorm | RMSNorm, *, axis: Axis) -> None:
        super().__init__(axis, sees_same_samples=True)
        if not isinstance(norm, LayerNorm | RMSNorm):
            raise TypeError(
                f"norm is a LayerNorm or an RMSNorm, not a {type(norm).__name__}"
            )
        self.norm = norm

    def construct(self, x: Tensor) -> Tensor:
        """Return this rank's rows, normalised.

        Args:
            x: this rank's part.

        Collective: the ranks along the axis, in backward.
        """
        norm = self.norm
        gamma = enter(norm.gamma, self.axis)
        if isinstance(norm, LayerNorm):
            beta = None if norm.beta is None else enter(norm.beta, self.axis)
            return layer_norm(x, norm.normalized_shape, gamma, beta, norm.epsilon)
        return rms_norm(x, norm.normalized_shape, gamma, norm.epsilon)


class SequenceParallelDropout(AxisCell):
    """Dropout of what is cut along one dim: the slice of the mask of the whole.

    Args:
        p: chance of an element to become zero while training, in [0, 1).
        dim: which dim is cut.
        axis: along which.

    Raises:
        TypeError: `p` is no number, or `axis` is no Axis.
        ValueError: `p` is no chance.
        PlanError: the axis does not fit its mesh.
    """

    def __init__(self, p: float, *, dim: int, axis: Axis) -> None:
        super().__init__(axis, sees_same_samples=True)
        self.p, self.dim = checked_number("p", p), dim
        if not 0.0 <= self.p < 1.0:
            raise ValueError(f"p lies in [0, 1), not at {p}")

    def construct(self, x: Tensor) -> Tensor:
        """Return x with some elements zero, of the same mean; in evaluation, x."""
        if not self.training or self.p == 0.0:
            return x
        shape = list(x.shape)
        shape[self.dim] *= self.axis.size
        stream = random.next_stream()
        whole = stream.bernoulli(0, int(np.prod(shape)), 1.0 - self.p).reshape(shape)
        keep = np.split(whole, self.axis.size, self.dim)[self.axis.index]
        return masked(x, np.ascontiguousarray(keep), 1.0 / (1.0 - self.p))
