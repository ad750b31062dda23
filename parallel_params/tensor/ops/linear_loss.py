"""A dense layer and its cross-entropy in one operator: logits that become gradients.

Of many classes, logits are the largest array of a model. Forward turns them into their
gradient where they lie; the sweep multiplies what they are multiplied with by the
gradient of the loss, which is smaller.

Source: Hsu et al., Liger Kernel (2024), section 3.2. Unlike there, rows are not cut in
chunks: products of few rows are slower on a CPU.
"""

import numpy as np

from parallel_params.tensor import tape
from parallel_params.tensor.ops.apply import Operand, as_operand, result
from parallel_params.tensor.ops.loss import Reduction, cross_entropy
from parallel_params.tensor.ops.loss_fused import fused_cross_entropy
from parallel_params.tensor.ops.matmul import affine, linear, linear_grads
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

_NAME = "linear_cross_entropy"


def linear_cross_entropy(
    input: Operand,
    linear_weight: Tensor,
    target: Operand,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy between softmax(linear(input)) and the target.

    It has the losses of `linear` and `cross_entropy`, and half of the memory.

    Args:
        input: [..., in].
        linear_weight: [classes, in].
        target: [...] integer labels; or [..., classes] probabilities.
        linear_bias: [classes], or None.
        weight: this and what follows as of `cross_entropy`.
        ignore_index: rows with this label count for nothing.
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target that is spread evenly, in [0, 1].

    Returns:
        [], or [...] if the reduction is "none".

    Raises:
        TypeError: as of `linear` and `cross_entropy`.
        ValueError: likewise, or the target does not fit the input.
    """
    x, t = as_operand(input, _NAME), as_operand(target, _NAME)
    array, labels = x._array, t._array
    is_labels = labels.dtype.kind in "iu"
    rows_of = array.shape[:-1]
    if (labels.shape if is_labels else labels.shape[:-1]) != rows_of:
        raise ValueError(
            f"{_NAME}: a target of shape {labels.shape} does not fit input of shape "
            f"{array.shape}: labels must be {rows_of}, probabilities that and classes"
        )
    is_fused = is_labels and reduction in ("mean", "sum") and labels.size
    if is_fused and array.dtype.char in "fd" and not tape.is_nested():
        out = _linear_cross_entropy(
            x, linear_weight, linear_bias, labels.reshape(-1), weight, ignore_index,
            reduction == "mean", label_smoothing,
        )  # fmt: skip
        if out is not None:
            return out
    scores = linear(x, linear_weight, linear_bias)
    classes = scores.shape[-1]
    flat = t.reshape(-1) if is_labels else t.reshape(-1, classes)
    found = cross_entropy(
        scores.reshape(-1, classes), flat, weight, ignore_index, reduction,
        label_smoothing,
    )  # fmt: skip
    return found.reshape(rows_of) if reduction == "none" else found


def _linear_cross_entropy(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    labels: Array,
    weight: Tensor | None,
    ignore_index: int,
    is_mean: bool,
    label_smoothing: float,
) -> Tensor | None:
    rows, scores = affine(x, w, bias, _NAME)
    total = fused_cross_entropy(
        rows=scores, labels=labels, grad=scores, weight=weight,
        ignore_index=ignore_index, is_mean=is_mean, label_smoothing=label_smoothing,
    )  # fmt: skip
    if total is None:
        return None
    inputs = (x, w) if bias is None else (x, w, bias)
    nodes = x._node, w._node, None if bias is None else bias._node
    array, matrix = x._array, w._array

    def vjp(g: Array) -> tuple[Array | None, ...]:
        is_one = g.item() == 1
        scaled = rows if is_one or nodes[1] is None else np.multiply(rows, g)
        dx, dw, db = linear_grads(scores, array, scaled, matrix, nodes)
        for part in () if is_one else (dx, db):
            if part is not None:
                np.multiply(part, g, part)
        return (dx, dw, db)[: len(inputs)]

    return result(total, inputs, vjp)
