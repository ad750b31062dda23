"""Losses out of single operators: every option, every order of derivative."""

import numpy as np

from parallel_params.tensor.ops.compare import where
from parallel_params.tensor.ops.indexing import gather_elements
from parallel_params.tensor.ops.reduction import sum
from parallel_params.tensor.ops.shape import squeeze
from parallel_params.tensor.ops.softmax import log_softmax
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Return the mean or sum of `losses`, or themselves."""
    if reduction == "mean":
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses


def check_reduction(reduction: str, operator: str) -> None:
    """Raise ValueError unless the reduction is known."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"{operator}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}"
        )


def check_not_empty(shape: tuple[int, ...], reduction: str, operator: str) -> None:
    """Raise ValueError if a mean is wanted and there is nothing to take it of."""
    if reduction == "mean" and 0 in shape:
        raise ValueError(
            f"{operator}: the batch is empty: its shape is {shape}; give it at least "
            "one sample, or use reduction='sum', which is 0 for none"
        )


def plain_cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    """Return what `cross_entropy` promises, whatever the arguments."""
    shape = x.shape
    if not shape or not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(
            f"cross_entropy takes logits of at least one dim and a label_smoothing in "
            f"[0, 1], not logits of shape {shape} and {label_smoothing}"
        )
    check_not_empty(shape, reduction, "cross_entropy")
    dim = 0 if len(shape) == 1 else 1
    classes = shape[dim]
    if target._array.dtype.kind not in "iu":
        return _of_probabilities(x, target, weight, dim, reduction, label_smoothing)
    labels = target._array
    is_counted = labels != ignore_index
    _check_labels(labels, is_counted, shape, dim)
    safe = np.where(is_counted, labels, 0)
    weights = _class_weights(weight, x, dim)
    logs = log_softmax(x, dim)
    picked = gather_elements(logs, dim, Tensor.wrap(np.expand_dims(safe, dim)))
    importance = weights.reshape(-1)[safe] * is_counted
    losses = squeeze(picked, dim) * Tensor.wrap(-importance)
    if label_smoothing:
        evenly = sum(logs * Tensor.wrap(weights), dim) * (-label_smoothing / classes)
        losses = losses * (1.0 - label_smoothing) + evenly
    if not is_counted.all():
        losses = where(Tensor.wrap(is_counted), losses, 0.0)
    return _reduced_by(losses, reduction, float(importance.sum(dtype=np.float64)))


def _of_probabilities(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    dim: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    if target._array.dtype != x._array.dtype:
        raise TypeError(
            f"cross_entropy: a target is labels of an integer type, or probabilities "
            f"of the logits' {x.dtype}; not {target.dtype}"
        )
    if target.shape != x.shape:
        raise ValueError(
            f"cross_entropy: probabilities of shape {target.shape} do not fit logits "
            f"of shape {x.shape}; a target of {target.dtype} is probabilities, labels "
            "are of an integer type"
        )
    if label_smoothing:
        even = label_smoothing / x.shape[dim]
        target = target * (1.0 - label_smoothing) + even
    weights = Tensor.wrap(_class_weights(weight, x, dim))
    losses = -sum(target * weights * log_softmax(x, dim), dim)
    return _reduced_by(losses, reduction, float(losses.size))


def _class_weights(weight: Tensor | None, x: Tensor, dim: int) -> Array:
    """Return the importance of every class, [classes] with dims of 1 behind it."""
    classes = x.shape[dim]
    if weight is None:
        array = np.ones(classes, x._array.dtype)
    elif weight.shape != (classes,):
        raise ValueError(
            f"cross_entropy: weight of shape {weight.shape} does not fit {classes} "
            f"classes"
        )
    else:
        array = weight._array.astype(x._array.dtype)
    return array.reshape((classes,) + (1,) * (x.ndim - dim - 1))


def _check_labels(
    labels: Array, is_counted: Array, shape: tuple[int, ...], dim: int
) -> None:
    rows = shape[:dim] + shape[dim + 1 :]
    if labels.shape != rows:
        raise ValueError(
            f"cross_entropy: labels of shape {labels.shape} do not fit logits of shape "
            f"{shape}, which need {rows}"
        )
    wrong = is_counted & ((labels < 0) | (labels >= shape[dim]))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"cross_entropy: label {labels[place]} at {place} is not one of the "
            f"{shape[dim]} classes 0 to {shape[dim] - 1}"
        )


def _reduced_by(losses: Tensor, reduction: str, total: float) -> Tensor:
    """Reduce; a mean divides by `total`, and is nan if every label is ignored."""
    if reduction != "mean":
        return reduced(losses, reduction)
    return sum(losses) * (1.0 / total if total else float("nan"))
