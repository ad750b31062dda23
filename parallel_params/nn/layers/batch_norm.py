"""`BatchNorm1d`, `BatchNorm2d`: channels of mean 0 and variance 1, scaled and shifted.

The arithmetic is in `tensor/ops/batch_norm.py`, what happens to the moving statistics
over grains and ranks in `nn/statistic.py` and `runtime/statistics.py`.
"""

from typing import ClassVar

from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.statistic import Statistic
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init, initializer
from parallel_params.tensor.ops.batch_norm import normalise_batch, normalise_by
from parallel_params.tensor.ops.windows import per_dim
from parallel_params.tensor.tensor import Tensor


class _BatchNorm(Cell):
    dims: ClassVar[tuple[int, ...]]  # how many the input may have
    layout: ClassVar[str]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.9,
        affine: bool = True,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        moving_mean_init: Init = "zeros",
        moving_var_init: Init = "ones",
        use_batch_statistics: bool | None = None,
        dtype: DType = float32,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        per_dim(f"{kind}: num_features", num_features, 1, least=1)
        if not eps > 0:
            raise ValueError(f"{kind}: eps is greater than 0, not {eps}")
        if use_batch_statistics not in (None, True, False):
            raise TypeError(
                f"{kind}: use_batch_statistics is None, True or False, not "
                f"{use_batch_statistics!r}"
            )
        self.num_features, self.eps = num_features, float(eps)
        self.affine, self.use_batch_statistics = affine, use_batch_statistics

        def drawn(law: Init) -> Tensor:
            return initializer(law, [num_features], dtype)

        self.moving_mean = Statistic(drawn(moving_mean_init), None, momentum)
        self.moving_variance = Statistic(drawn(moving_var_init), None, momentum)
        self.gamma: Parameter | None = None
        self.beta: Parameter | None = None
        if affine:
            self.gamma = Parameter(drawn(gamma_init), name="gamma")
            self.beta = Parameter(drawn(beta_init), name="beta")

    def construct(self, x: Tensor) -> Tensor:
        """Return x with every channel normalised.

        Raises:
            ValueError: x has other dims or channels; or it is normalised by its own
                moments, and is empty or has one element per channel.
        """
        kind = type(self).__name__
        if x.ndim not in self.dims:
            raise ValueError(f"{kind} takes {self.layout}, not shape {x.shape}")
        by_batch = self.use_batch_statistics
        if by_batch is None:
            by_batch = self.training
        if not by_batch:
            return normalise_by(
                x,
                self.moving_mean,
                self.moving_variance,
                self.gamma,
                self.beta,
                self.eps,
                kind,
            )
        out, found = normalise_batch(x, self.gamma, self.beta, self.eps, kind)
        if self.training:
            self.moving_mean.observe(found.mean, found.count)
            self.moving_variance.observe(found.variance, found.count)
        return out

    def extend_repr(self) -> str:
        """Return the settings."""
        return (
            f"num_features={self.num_features}, eps={self.eps}, "
            f"momentum={self.moving_mean.momentum}, affine={self.affine}"
        )


class BatchNorm2d(_BatchNorm):
    """Normalise every channel of [N, C, H, W] over N, H and W.

    While training (`set_train()`) by the moments of the batch, which the moving mean
    and variance follow; otherwise by those two. Under a manager the batch is a grain,
    and the moving numbers follow the mean over all grains of the step.

    Args:
        num_features: C.
        eps: keeps the root of the variance from zero.
        momentum: what is kept of the moving numbers at a step: MindSpore's meaning;
            PyTorch's `momentum` is 1 minus this.
        affine: whether gamma and beta scale and shift the result.
        gamma_init: law of gamma [C].
        beta_init: law of beta [C].
        moving_mean_init: law of the moving mean [C].
        moving_var_init: law of the moving variance [C], that of the population: the sum
            of squares over count - 1.
        use_batch_statistics: True: the batch's moments always; False: never; None:
            while training.
        dtype: of all four.

    Raises:
        TypeError: a setting is of another type.
        ValueError: a setting is out of range.
    """

    dims = (4,)
    layout = "[N, C, H, W]"


class BatchNorm1d(_BatchNorm):
    """Normalise every channel of [N, C] or [N, C, L]; otherwise as `BatchNorm2d`."""

    dims = (2, 3)
    layout = "[N, C] or [N, C, L]"
