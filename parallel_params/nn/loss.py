"""Losses as cells; the arithmetic is in `tensor/ops/loss.py`."""

from typing import get_args

from parallel_params.nn.cell import Cell
from parallel_params.tensor.ops.loss import Reduction, cross_entropy, mse_loss
from parallel_params.tensor.tensor import Tensor


def _checked_reduction(reduction: object) -> None:
    known = get_args(Reduction)
    if reduction not in known:
        raise ValueError(f"reduction is one of {known}, not {reduction!r}")


class CrossEntropyLoss(Cell):
    """The cross-entropy between softmax(logits) and labels or probabilities.

    Args:
        weight: [classes] importance of every class.
        ignore_index: rows with this label count for nothing.
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target that is spread evenly, in [0, 1].

    Raises:
        ValueError: the reduction is unknown, or the smoothing out of range.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        _checked_reduction(reduction)
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing is in [0, 1], not {label_smoothing}")
        self.weight = weight
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction
        self.label_smoothing = label_smoothing

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; see `ops.cross_entropy` for the shapes."""
        return cross_entropy(
            logits,
            labels,
            self.weight,
            self.ignore_index,
            self.reduction,
            self.label_smoothing,
        )


class MSELoss(Cell):
    """The squares of what is missing, and their mean or sum.

    Args:
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: the reduction is unknown.
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        _checked_reduction(reduction)
        self.reduction: Reduction = reduction

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; the shapes broadcast."""
        return mse_loss(logits, labels, self.reduction)
