"""The laws of initial values: position in a tensor -> value.

Names, arguments and defaults are MindSpore's (`mindspore.common.initializer`). A law
keeps no state: where the random numbers come from is an argument. Laws that look at the
fans of a shape are in `tensor/fan_laws.py`.
"""

from statistics import NormalDist
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.tensor import quantile
from parallel_params.tensor.random import Stream

Shape: TypeAlias = tuple[int, ...]
Values: TypeAlias = NDArray[np.float64]


class Initializer:
    """A law. Subclasses say what `values` are, and which shapes they can fill."""

    is_random: ClassVar[bool] = False
    is_local: ClassVar[bool] = True  # is a part as cheap to make as it is small?

    def check(self, shape: Shape) -> None:
        """Raise ValueError if the law cannot fill a tensor of this shape."""

    def values(
        self, shape: Shape, start: int, stop: int, stream: Stream | None
    ) -> Values:
        """Return elements [start, stop) of a tensor of this shape, in C order.

        Args:
            shape: of the whole tensor.
            start: first element wanted.
            stop: one past the last.
            stream: where a random law takes its numbers; None for the others.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        shown = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        arguments = ", ".join(f"{k}={v!r}" for k, v in shown.items())
        return f"{type(self).__name__}({arguments})"


class Constant(Initializer):
    """The same number everywhere."""

    def __init__(self, value: float) -> None:
        if not isinstance(value, int | float):
            raise TypeError(f"a constant is a number, not {type(value).__name__}")
        self.value = value

    def values(
        self, shape: Shape, start: int, stop: int, stream: Stream | None
    ) -> Values:
        """Return the number, repeated."""
        return np.full(stop - start, self.value)


class Zero(Constant):
    """Zeros."""

    def __init__(self) -> None:
        super().__init__(0.0)


class One(Constant):
    """Ones."""

    def __init__(self) -> None:
        super().__init__(1.0)


class Identity(Initializer):
    """Ones on the diagonal of a matrix, zeros elsewhere."""

    def check(self, shape: Shape) -> None:
        """Raise ValueError unless the shape has two dims."""
        if len(shape) != 2:
            raise ValueError(f"Identity fills a tensor of 2 dims, not {shape}")

    def values(
        self, shape: Shape, start: int, stop: int, stream: Stream | None
    ) -> Values:
        """Return 1 where row and column agree."""
        row, column = np.divmod(np.arange(start, stop), shape[1])
        values: Values = (row == column).astype(np.float64)
        return values


class RandomLaw(Initializer):
    """A law of independent elements, each a function of one uniform number."""

    is_random = True

    def values(
        self, shape: Shape, start: int, stop: int, stream: Stream | None
    ) -> Values:
        """Return the quantiles of the stream's uniform numbers."""
        assert stream is not None, "a random law needs a stream"
        return self.quantile(stream.uniform(start, stop), shape)

    def quantile(self, probability: Values, shape: Shape) -> Values:
        """Return where the law's distribution function reaches `probability`."""
        raise NotImplementedError


class Normal(RandomLaw):
    """N(mean, sigma^2)."""

    def __init__(self, sigma: float = 0.01, mean: float = 0.0) -> None:
        self.sigma = sigma
        self.mean = mean

    def quantile(self, probability: Values, shape: Shape) -> Values:
        """Return mean + sigma times the quantile of N(0, 1)."""
        values = quantile.normal(probability)
        values *= self.sigma
        values += self.mean
        return values


class Uniform(RandomLaw):
    """Even on (-scale, scale)."""

    def __init__(self, scale: float = 0.07) -> None:
        self.scale = scale

    def quantile(self, probability: Values, shape: Shape) -> Values:
        """Return a number between the bounds."""
        return (probability * 2.0 - 1.0) * self.scale


class TruncatedNormal(RandomLaw):
    """N(mean, sigma^2) given that it lies in (a, b).

    As in MindSpore the bounds are absolute, not multiples of sigma, so that with the
    defaults nothing is cut off in effect.
    """

    def __init__(
        self, sigma: float = 0.01, mean: float = 0.0, a: float = -2.0, b: float = 2.0
    ) -> None:
        law = NormalDist()
        self._low = law.cdf((a - mean) / sigma)
        self._high = law.cdf((b - mean) / sigma)
        if not self._low < self._high:
            raise ValueError(
                f"TruncatedNormal(sigma={sigma}, mean={mean}) has no mass in ({a}, {b})"
            )
        self.sigma, self.mean, self.a, self.b = sigma, mean, a, b

    def quantile(self, probability: Values, shape: Shape) -> Values:
        """Return the quantile of N(0, 1) at the probability within the bounds."""
        inside = self._low + probability * (self._high - self._low)
        # Rounding may reach the ends, where the quantile is infinite.
        np.clip(inside, 2.0**-53, 1.0 - 2.0**-53, out=inside)
        values = quantile.normal(inside) * self.sigma + self.mean
        np.clip(values, self.a, self.b, out=values)
        return values
