"""Laws of initial values whose width depends on the fans of the shape.

Names, arguments and defaults are MindSpore's, except that `VarianceScaling` draws the
law it announces. What a law is, and the simple ones, are in `tensor/laws.py`.
"""

import math
from statistics import NormalDist
from typing import ClassVar, Literal, TypeAlias

from parallel_params.tensor import quantile
from parallel_params.tensor.laws import RandomLaw, Shape, TruncatedNormal, Values

FanMode: TypeAlias = Literal["fan_in", "fan_out", "fan_avg"]


class _Scaled(RandomLaw):
    """A centred law whose standard deviation depends on the fans of the shape."""

    is_normal: ClassVar[bool] = False

    def check(self, shape: Shape) -> None:
        """Raise ValueError if the shape has no fans, that is, less than two dims."""
        fans(shape)

    def sigma_of(self, shape: Shape) -> float:
        """Return the standard deviation for a tensor of this shape."""
        raise NotImplementedError

    def quantile(self, probability: Values, shape: Shape) -> Values:
        """Return sigma times the quantile of the law of variance 1."""
        if self.is_normal:
            return quantile.normal(probability) * self.sigma_of(shape)
        return (probability * 2.0 - 1.0) * (math.sqrt(3.0) * self.sigma_of(shape))


class XavierUniform(_Scaled):
    """Even on +-gain * sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward
    neural networks (2010), equation 16.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def sigma_of(self, shape: Shape) -> float:
        """Return gain * sqrt(2 / (fan_in + fan_out))."""
        return self.gain * math.sqrt(2.0 / sum(fans(shape)))


class XavierNormal(XavierUniform):
    """N(0, gain^2 * 2 / (fan_in + fan_out))."""

    is_normal = True


class HeUniform(_Scaled):
    """Even on +-gain * sqrt(3 / fan); the gain is that of the nonlinearity.

    Source: He et al., Delving deep into rectifiers (2015), section 2.2.
    """

    def __init__(
        self,
        negative_slope: float = 0.0,
        mode: FanMode = "fan_in",
        nonlinearity: str = "leaky_relu",
    ) -> None:
        self.negative_slope = negative_slope
        self.mode = _checked_mode(mode, ("fan_in", "fan_out"))
        self.nonlinearity = nonlinearity
        _gain(nonlinearity, negative_slope)

    def sigma_of(self, shape: Shape) -> float:
        """Return gain / sqrt(fan)."""
        gain = _gain(self.nonlinearity, self.negative_slope)
        return gain / math.sqrt(_fan(shape, self.mode))


class HeNormal(HeUniform):
    """N(0, gain^2 / fan)."""

    is_normal = True


class VarianceScaling(_Scaled):
    """Of variance scale / fan.

    MindSpore's "truncated_normal" draws a uniform law in fact; here it draws a normal
    law cut at two standard deviations and widened to the announced variance.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: FanMode = "fan_in",
        distribution: str = "truncated_normal",
    ) -> None:
        known = ("truncated_normal", "untruncated_normal", "uniform")
        if scale <= 0:
            raise ValueError(f"the scale is positive, not {scale}")
        if distribution not in known:
            raise ValueError(
                f"the distribution is one of {known}, not {distribution!r}"
            )
        self.scale = scale
        self.mode = _checked_mode(mode, ("fan_in", "fan_out", "fan_avg"))
        self.distribution = distribution

    def sigma_of(self, shape: Shape) -> float:
        """Return sqrt(scale / fan)."""
        return math.sqrt(self.scale / _fan(shape, self.mode))

    def quantile(self, probability: Values, shape: Shape) -> Values:
        """Return the quantile of the chosen law."""
        sigma = self.sigma_of(shape)
        if self.distribution == "uniform":
            return super().quantile(probability, shape)
        if self.distribution == "untruncated_normal":
            return quantile.normal(probability) * sigma
        law = TruncatedNormal(1.0, 0.0, -2.0, 2.0)
        return law.quantile(probability, shape) * (sigma / _SIGMA_OF_CUT_NORMAL)


# The standard deviation of N(0, 1) given that it lies in (-2, 2).
_SIGMA_OF_CUT_NORMAL = math.sqrt(
    1.0 - 4.0 * NormalDist().pdf(2.0) / (2.0 * NormalDist().cdf(2.0) - 1.0)
)


def fans(shape: Shape) -> tuple[int, int]:
    """Return how many elements feed one output (fan in), and one input feeds (fan out).

    Raises:
        ValueError: the shape has less than two dims.
    """
    if len(shape) < 2:
        raise ValueError(
            f"a law that scales with the fan needs a tensor of 2 dims or more, "
            f"not {shape}"
        )
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def _fan(shape: Shape, mode: FanMode) -> float:
    fan_in, fan_out = fans(shape)
    return {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
    }[mode]


def _checked_mode(mode: FanMode, known: tuple[FanMode, ...]) -> FanMode:
    if mode not in known:
        raise ValueError(f"the mode is one of {known}, not {mode!r}")
    return mode


def _gain(nonlinearity: str, negative_slope: float) -> float:
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + negative_slope**2)),
    }
    if nonlinearity not in gains:
        raise ValueError(
            f"the nonlinearity is one of {', '.join(gains)}, not {nonlinearity!r}"
        )
    return gains[nonlinearity]
