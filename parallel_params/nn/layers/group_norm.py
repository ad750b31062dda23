"""`GroupNorm`; the arithmetic is in `tensor/ops/group_norm.py`."""

from parallel_params.nn.cell import Cell
from parallel_params.nn.layers.checks import checked_count, checked_epsilon
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import checked_bool
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init, initializer
from parallel_params.tensor.ops.group_norm import group_norm
from parallel_params.tensor.tensor import Tensor


class GroupNorm(Cell):
    """Groups of a sample's channels of mean 0 and variance 1, then scaled and shifted.

    It needs no statistics: a sample counts by itself, so a batch may be cut at will.

    Args:
        num_groups: how many groups; 1 for all channels in one, `num_channels` for each
            on its own.
        num_channels: C.
        eps: added to the variance.
        affine: whether there are gamma and beta.
        gamma_init: law of gamma, of shape [C]; ones.
        beta_init: law of beta; zeros.
        dtype: of gamma and beta; one given as a Tensor keeps its own.

    Raises:
        TypeError: a count is no int, `eps` is no number, `affine` is no bool.
        ValueError: a count is less than 1, the groups do not divide the channels, `eps`
            is negative, or a law does not fit.

    Source: Wu and He, Group Normalization (2018), section 3.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        self.num_groups = checked_count("num_groups", num_groups)
        self.num_channels = checked_count("num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_groups = {num_groups} does not divide num_channels = "
                f"{num_channels}"
            )
        self.eps = checked_epsilon("eps", eps)
        self.affine = checked_bool("affine", affine)
        self.gamma: Parameter | None = None
        self.beta: Parameter | None = None
        if affine:
            shape = [num_channels]
            self.gamma = Parameter(initializer(gamma_init, shape, dtype), name="gamma")
            self.beta = Parameter(initializer(beta_init, shape, dtype), name="beta")

    def construct(self, x: Tensor) -> Tensor:
        """Return [N, C, ...], for x of [N, C, ...]."""
        return group_norm(x, self.num_groups, self.gamma, self.beta, self.eps)

    def extend_repr(self) -> str:
        """Return the settings."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"
