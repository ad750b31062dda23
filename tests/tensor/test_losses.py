"""Losses: labels of every kind, empty batches, PyTorch as an oracle."""

from collections.abc import Callable

import numpy as np
import pytest
from grads import gradients_of
from operands import draw

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.tape import Array


@pytest.mark.parametrize("operator", [ops.cross_entropy, ops.mse_loss])
def test_the_mean_loss_of_an_empty_batch_is_refused(
    operator: Callable[..., Tensor],
) -> None:
    logits = Tensor(np.zeros((0, 3)))
    target = logits if operator is ops.mse_loss else Tensor(np.zeros(0, np.int64))
    with pytest.raises(ValueError, match=r"empty: its shape is \(0, 3\)"):
        operator(logits, target)
    assert operator(logits, target, reduction="sum").item() == 0.0
    assert operator(logits, target, reduction="none").size == 0


def test_cross_entropy_of_many_blocks_equals_the_plain_one() -> None:
    x = Tensor(draw((300, 700), 0).astype(np.float32))
    labels = Tensor(np.arange(300) * 7 % 700)
    value, gradient = value_and_grad(ops.cross_entropy)(x, labels)
    plain, expected = value_and_grad(
        lambda x: ops.cross_entropy(x, labels, ops.ones(700))
    )(x)
    assert isinstance(gradient, Tensor)
    assert isinstance(expected, Tensor)
    np.testing.assert_allclose(float(value), float(plain), rtol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        gradient.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_labels_may_be_of_any_integer_type(dtype: type) -> None:
    x = Tensor(draw((3, 4), 0))
    labels: Array = np.array([0, 3, 1], dtype)
    losses = -np.log(np.exp(x.asnumpy()) / np.exp(x.asnumpy()).sum(1, keepdims=True))
    want = losses[np.arange(3), labels.astype(int)].mean()
    assert ops.cross_entropy(x, Tensor(labels)).item() == pytest.approx(want)


def test_ignored_labels_count_for_nothing() -> None:
    x = Tensor(draw((3, 4), 0))
    some = ops.cross_entropy(x, Tensor([0, -100, 1]))
    only = ops.cross_entropy(x[Tensor([0, 2])], Tensor([0, 1]))
    assert some.item() == pytest.approx(only.item())
    (gradient,) = gradients_of(
        lambda x: ops.cross_entropy(x, Tensor([0, 7, 1]), None, 7), x
    )
    assert gradient[1].tolist() == [0.0] * 4
    assert np.isnan(ops.cross_entropy(x, Tensor([-100] * 3)).item())


def test_labels_and_one_hot_probabilities_agree() -> None:
    x = Tensor(draw((3, 4, 2), 0))
    labels = Tensor([[0, 1], [3, 2], [1, 1]])
    hot = ops.one_hot(labels, 4).astype(pt.float64).transpose(0, 2, 1)
    for smoothing in (0.0, 0.2):
        for reduction in ("mean", "sum", "none"):
            options = {"reduction": reduction, "label_smoothing": smoothing}
            by_label = ops.cross_entropy(x, labels, **options)  # type: ignore[arg-type]
            by_hot = ops.cross_entropy(x, hot, **options)  # type: ignore[arg-type]
            np.testing.assert_allclose(by_label.asnumpy(), by_hot.asnumpy(), rtol=1e-13)


def test_the_gradient_of_a_loss_is_scaled_by_what_comes_behind_it() -> None:
    x, labels = Tensor(draw((3, 4), 0)), Tensor([0, 1, 2])
    y = Tensor(draw((3, 4), 1))
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda x: ops.cross_entropy(x, labels),
        lambda x: ops.mse_loss(x, y),
    ]
    for loss in losses:
        (once,) = gradients_of(loss, x)
        (thrice,) = gradients_of(lambda x, loss=loss: loss(x) * 3.0, x)
        np.testing.assert_allclose(thrice, 3.0 * once, rtol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_cross_entropy_agrees_with_torch(
    reduction: str, smoothing: float, is_weighted: bool
) -> None:
    torch = pytest.importorskip("torch")
    x, labels = draw((3, 4, 2), 0), np.array([[0, 1], [3, -100], [1, 2]])
    class_weights = draw((4,), 1) if is_weighted else None
    ours = ops.cross_entropy(
        Tensor(x),
        Tensor(labels),
        None if class_weights is None else Tensor(class_weights),
        reduction=reduction,  # type: ignore[arg-type]
        label_smoothing=smoothing,
    )
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(x),
        torch.tensor(labels),
        None if class_weights is None else torch.tensor(class_weights),
        reduction=reduction,
        label_smoothing=smoothing,
    )
    np.testing.assert_allclose(ours.asnumpy(), theirs.numpy(), rtol=1e-12)
