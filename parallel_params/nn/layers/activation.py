"""Activations as cells, and as the names that `Dense(activation=...)` takes."""

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers.checks import checked_number
from parallel_params.tensor.ops import activation as ops
from parallel_params.tensor.ops import rectifiers
from parallel_params.tensor.ops import softmax as softmax_ops
from parallel_params.tensor.tensor import Tensor


class ReLU(Cell):
    """max(x, 0)."""

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return ops.relu(x)


class GELU(Cell):
    """x times the chance that N(0, 1) is below x.

    Args:
        approximate: whether in the form with tanh, or that with the error function.

    Raises:
        TypeError: `approximate` is no bool.
    """

    def __init__(self, approximate: bool = True) -> None:
        super().__init__()
        if not isinstance(approximate, bool):
            raise TypeError(f"approximate is True or False, not {approximate!r}")
        self.approximate = approximate

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return ops.gelu(x, "tanh" if self.approximate else "none")


class SiLU(Cell):
    """x / (1 + exp(-x)), also called swish."""

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return ops.silu(x)


class HSwish(Cell):
    """`SiLU` out of straight pieces: x * min(max(x + 3, 0), 6) / 6."""

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return rectifiers.hardswish(x)


class Mish(Cell):
    """x * tanh(log(1 + exp(x)))."""

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return rectifiers.mish(x)


class LeakyReLU(Cell):
    """x where it is positive, else `alpha` * x.

    Args:
        alpha: the slope for negative numbers.

    Raises:
        TypeError: `alpha` is no number.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__()
        self.alpha = checked_number("alpha", alpha)

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return rectifiers.leaky_relu(x, self.alpha)


class ELU(Cell):
    """x where it is positive, else `alpha` * (exp(x) - 1).

    Args:
        alpha: the negative of the limit on the left.

    Raises:
        TypeError: `alpha` is no number.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = checked_number("alpha", alpha)

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return rectifiers.elu(x, self.alpha)


class Tanh(Cell):
    """The hyperbolic tangent."""

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return ops.tanh(x)


class Sigmoid(Cell):
    """1 / (1 + exp(-x))."""

    def construct(self, x: Tensor) -> Tensor:
        """Return it elementwise."""
        return ops.sigmoid(x)


class Softmax(Cell):
    """exp(x), scaled to a sum of 1 along a dim.

    Args:
        axis: that dim; the last by default.
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis

    def construct(self, x: Tensor) -> Tensor:
        """Return [shape of x], positive."""
        return softmax_ops.softmax(x, self.axis)


class LogSoftmax(Cell):
    """The logarithm of `Softmax`.

    Args:
        axis: along which dim; the last by default.
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis

    def construct(self, x: Tensor) -> Tensor:
        """Return [shape of x], negative."""
        return softmax_ops.log_softmax(x, self.axis)


_FUSED: dict[type[Cell], str] = {
    ReLU: "relu",
    GELU: "gelu",
    Tanh: "tanh",
    Sigmoid: "sigmoid",
}


def fused_name(activation: Cell) -> str | None:
    """Return the name under which `linear` applies an activation, if it can."""
    if isinstance(activation, GELU) and not activation.approximate:
        return None
    return _FUSED.get(type(activation))


_NAMED: dict[str, type[Cell]] = {
    "relu": ReLU,
    "gelu": GELU,
    "silu": SiLU,
    "hswish": HSwish,
    "mish": Mish,
    "leakyrelu": LeakyReLU,
    "elu": ELU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "softmax": Softmax,
    "logsoftmax": LogSoftmax,
}


def get_activation(name: "str | Cell | None") -> Cell | None:
    """Return the activation of that name; a cell, None and "" are passed through.

    Raises:
        ValueError: no activation has the name.
        TypeError: it is neither text nor cell.
    """
    if name is None or isinstance(name, Cell):
        return name
    if not isinstance(name, str):
        raise TypeError(f"an activation is a str or a Cell, not {type(name).__name__}")
    if not name:
        return None
    if name not in _NAMED:
        raise ValueError(
            f"no activation is called {name!r}; there are {', '.join(_NAMED)}"
        )
    return _NAMED[name]()
