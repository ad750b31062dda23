"""`LayerNorm` and `RMSNorm`; the arithmetic is in `tensor/ops/norm.py`."""

from collections.abc import Sequence

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers.checks import checked_count, checked_epsilon
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import checked_bool
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init, initializer
from parallel_params.tensor.ops.norm import layer_norm, rms_norm
from parallel_params.tensor.tensor import Tensor


class LayerNorm(Cell):
    """Every row brought to mean 0 and variance 1, then times gamma plus beta.

    Args:
        normalized_shape: the last dims of the input, which make a row.
        begin_norm_axis: the first dim of a row: -1 for the last one, or where
            `normalized_shape` begins. MindSpore asks for it.
        begin_params_axis: the same of gamma and beta.
        gamma_init: law of gamma, of shape `normalized_shape`; ones.
        beta_init: law of beta; zeros.
        epsilon: added to the variance.
        has_bias: whether there is a beta.
        dtype: of gamma and beta; one given as a Tensor keeps its own.

    Raises:
        TypeError: the shape is made of other things than ints, `epsilon` is no number.
        ValueError: a length is not positive, `epsilon` is negative, an axis says
            something else than the shape, or a law does not fit.

    Source: Ba, Kiros and Hinton, Layer Normalization (2016), section 3.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        begin_norm_axis: int = -1,
        begin_params_axis: int = -1,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        epsilon: float = 1e-7,
        has_bias: bool = True,
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        self.normalized_shape = _checked_dims(normalized_shape)
        self.begin_norm_axis = begin_norm_axis
        self.begin_params_axis = begin_params_axis
        self._check_axes()
        self.epsilon = checked_epsilon("epsilon", epsilon)
        self.has_bias = checked_bool("has_bias", has_bias)
        gamma = initializer(gamma_init, self.normalized_shape, dtype)
        self.gamma = Parameter(gamma, name="gamma")
        self.beta: Parameter | None = None
        if has_bias:
            beta = initializer(beta_init, self.normalized_shape, dtype)
            self.beta = Parameter(beta, name="beta")

    def _check_axes(self) -> None:
        first = -len(self.normalized_shape)
        for name in ("begin_norm_axis", "begin_params_axis"):
            axis = getattr(self, name)
            # A positive axis depends on the dims of the input, which are unknown here.
            if axis < 0 and axis not in (-1, first):
                raise ValueError(
                    f"{name} is {first}, where normalized_shape "
                    f"{self.normalized_shape} begins, not {axis}"
                )

    def construct(self, x: Tensor) -> Tensor:
        """Return [shape of x], for x of [..., *normalized_shape]."""
        return layer_norm(x, self.normalized_shape, self.gamma, self.beta, self.epsilon)

    def extend_repr(self) -> str:
        """Return the settings."""
        return f"normalized_shape={self.normalized_shape}, epsilon={self.epsilon}"


class RMSNorm(Cell):
    """Every row brought to a mean square of 1, then times gamma.

    Args:
        normalized_shape: the last dims of the input, which make a row.
        gamma_init: law of gamma, of shape `normalized_shape`; ones.
        epsilon: added to the mean square.
        dtype: of gamma; one given as a Tensor keeps its own.

    Raises:
        TypeError: the shape is made of other things than ints, `epsilon` is no number.
        ValueError: a length is not positive, `epsilon` is negative, or the law does not
            fit.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization (2019), section 3.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        gamma_init: Init = "ones",
        epsilon: float = 1e-6,
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        self.normalized_shape = _checked_dims(normalized_shape)
        self.epsilon = checked_epsilon("epsilon", epsilon)
        gamma = initializer(gamma_init, self.normalized_shape, dtype)
        self.gamma = Parameter(gamma, name="gamma")

    def construct(self, x: Tensor) -> Tensor:
        """Return [shape of x], for x of [..., *normalized_shape]."""
        return rms_norm(x, self.normalized_shape, self.gamma, self.epsilon)

    def extend_repr(self) -> str:
        """Return the settings."""
        return f"normalized_shape={self.normalized_shape}, epsilon={self.epsilon}"


def _checked_dims(shape: "int | Sequence[int]") -> tuple[int, ...]:
    lengths = (shape,) if isinstance(shape, int) else shape
    if not isinstance(lengths, list | tuple) or not lengths:
        raise TypeError(f"normalized_shape is an int or a list of ints, not {shape!r}")
    return tuple(checked_count("a length in normalized_shape", n) for n in lengths)
