"""Laws of initial values that see the tensor as a matrix, or as a set of filters.

Names, arguments and defaults are MindSpore's. In a random one of these an element
depends on others, so to give a part the whole is made; `is_local` says so. What a law
is, and the simple ones, are in `tensor/laws.py`.
"""

import math
from typing import ClassVar

import numpy as np

from parallel_params.tensor.laws import Initializer, Shape, Values
from parallel_params.tensor.random import Stream


class _Whole(Initializer):
    """A random law whose elements depend on one another."""

    is_random: ClassVar[bool] = True
    is_local: ClassVar[bool] = False

    def values(
        self, shape: Shape, start: int, stop: int, stream: Stream | None
    ) -> Values:
        """Return that part of the whole."""
        assert stream is not None, "a random law needs a stream"
        return self.whole(shape, stream).reshape(-1)[start:stop]

    def whole(self, shape: Shape, stream: Stream) -> Values:
        """Return all elements, in C order."""
        raise NotImplementedError


class Orthogonal(_Whole):
    """Rows or columns, whichever are fewer, of length `gain` and at right angles.

    Dims behind the first count as one. The bits are those of the installed LAPACK.

    Args:
        gain: the length.

    Source: Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks (2014). The signs that make the law even:
    Mezzadri, How to generate random matrices from the classical compact groups (2007).
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def check(self, shape: Shape) -> None:
        """Raise ValueError if the shape has less than two dims."""
        if len(shape) < 2:
            raise ValueError(
                f"Orthogonal fills a tensor of 2 dims or more, not {shape}"
            )

    def whole(self, shape: Shape, stream: Stream) -> Values:
        """Return the orthogonal factor of a matrix of normal numbers."""
        rows, columns = shape[0], math.prod(shape[1:])
        tall = max(rows, columns), min(rows, columns)
        q, r = np.linalg.qr(stream.normal(0, rows * columns).reshape(tall))
        q *= np.where(np.diagonal(r) < 0, -self.gain, self.gain)
        return q if rows >= columns else q.T


class Sparse(_Whole):
    """N(0, sigma^2), with the same number of zeros in every column, at random places.

    Args:
        sparsity: the share of a column that is zero, rounded up to whole elements.
        sigma: the standard deviation of the others.

    Raises:
        ValueError: `sparsity` does not lie in [0, 1].

    Source: Martens, Deep learning via Hessian-free optimization (2010), section 5.
    """

    def __init__(self, sparsity: float, sigma: float = 0.01) -> None:
        if not 0.0 <= sparsity <= 1.0:
            raise ValueError(f"the sparsity lies in [0, 1], not at {sparsity}")
        self.sparsity = sparsity
        self.sigma = sigma

    def check(self, shape: Shape) -> None:
        """Raise ValueError unless the shape has two dims."""
        if len(shape) != 2:
            raise ValueError(f"Sparse fills a tensor of 2 dims, not {shape}")

    def whole(self, shape: Shape, stream: Stream) -> Values:
        """Return normal numbers, and zeros where a second draw is smallest."""
        numel = math.prod(shape)
        values = (stream.normal(0, numel) * self.sigma).reshape(shape)
        draw = stream.uniform(numel, 2 * numel).reshape(shape)
        num_zeros = math.ceil(self.sparsity * shape[0])
        places = np.argsort(draw, axis=0, kind="stable")[:num_zeros]
        np.put_along_axis(values, places, 0.0, axis=0)
        return values


class Dirac(Initializer):
    """Filters of a convolution that pass their input on: one 1 in the middle of each.

    Args:
        groups: the outputs are cut into so many parts, each of which passes on the
            first channels that it sees.

    Raises:
        TypeError: `groups` is no int.
        ValueError: it is not positive.
    """

    def __init__(self, groups: int = 1) -> None:
        if type(groups) is not int:
            raise TypeError(f"groups is an int, not {groups!r}")
        if groups < 1:
            raise ValueError(f"groups is at least 1, not {groups}")
        self.groups = groups

    def check(self, shape: Shape) -> None:
        """Raise ValueError unless the shape has 3 to 5 dims, the first cut evenly."""
        if not 3 <= len(shape) <= 5:
            raise ValueError(f"Dirac fills a tensor of 3, 4 or 5 dims, not {shape}")
        if shape[0] % self.groups:
            raise ValueError(
                f"Dirac(groups={self.groups}) cannot cut the {shape[0]} outputs of "
                f"{shape} evenly"
            )

    def values(
        self, shape: Shape, start: int, stop: int, stream: Stream | None
    ) -> Values:
        """Return 1 in the middle of filter [i, i], counted within its group."""
        output, channel, *place = np.unravel_index(np.arange(start, stop), shape)
        hits = output % (shape[0] // self.groups) == channel
        for index, length in zip(place, shape[2:], strict=True):
            hits &= index == length // 2
        values: Values = hits.astype(np.float64)
        return values
