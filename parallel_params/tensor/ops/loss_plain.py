"""Losses out of single operators: every option, every order of derivative."""

from parallel_params.tensor.tensor import Tensor


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Return the mean or sum of `losses`, or themselves.

    Raises:
        ValueError: the reduction is unknown.
    """
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction != "none":
        raise ValueError(
            f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}"
        )
    return losses


def plain_cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    """Return what `cross_entropy` promises, whatever the arguments."""
    raise NotImplementedError
