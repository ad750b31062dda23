"""Losses, and the cells that train: the golden steps of PARAMETER.md, section 6."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from parallel_params import nn
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.ops.loss import cross_entropy, mse_loss

ROUNDED = 1e-6  # the goldens are given to six digits


class Descent(nn.Cell):
    """Gradient descent, the smallest optimizer there is."""

    def __init__(self, params: list[nn.Parameter], rate: float) -> None:
        super().__init__(auto_prefix=False)
        self.parameters = nn.ParameterTuple(params)
        self.rate = rate

    def construct(self, gradients: tuple[Tensor, ...]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.set_data(parameter - gradient * self.rate)


def test_one_step_cell_follows_the_golden_losses() -> None:
    net = nn.Dense(2, 1, "ones", "zeros")
    with_loss = nn.WithLossCell(net, nn.MSELoss())
    train = nn.TrainOneStepCell(with_loss, Descent(net.trainable_params(), 0.1))
    x, y = Tensor(np.ones((2, 2), np.float32)), Tensor(np.zeros((2, 1), np.float32))

    losses = [float(train(x, y)) for _ in range(3)]

    assert_allclose(losses, [4.0, 0.64, 0.1024], rtol=ROUNDED)
    assert_allclose(net.weight.asnumpy(), [[0.376, 0.376]], rtol=ROUNDED)
    assert net.bias is not None
    assert_allclose(net.bias.asnumpy(), [-0.624], rtol=ROUNDED)
    assert [p.name for p in train.get_parameters()] == ["weight", "bias"]
    assert with_loss.backbone_network is net
    assert with_loss.requires_grad
    assert train.weights[0] is net.weight


def test_sens_multiplies_the_gradients_not_the_loss() -> None:
    net = nn.Dense(1, 1, "ones", "zeros")
    step = nn.TrainOneStepCell(
        nn.WithLossCell(net, nn.MSELoss()), Descent([net.weight], 0.1), sens=10.0
    )
    one = Tensor([[1.0]])
    loss = step(one, one * 0.0)
    assert float(loss) == 1.0
    assert_allclose(net.weight.asnumpy(), [[-1.0]], rtol=ROUNDED)


LOGITS = Tensor(np.arange(12, dtype=np.float32).reshape(4, 3) % 5)
LABELS = Tensor([0, 2, 1, 1])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_loss_is_the_operator(reduction: str) -> None:
    cell = nn.CrossEntropyLoss(
        weight=Tensor([1.0, 2.0, 3.0]),
        ignore_index=1,
        reduction=reduction,  # type: ignore[arg-type]  # one of the three
        label_smoothing=0.1,
    )
    wanted = cross_entropy(
        LOGITS,
        LABELS,
        Tensor([1.0, 2.0, 3.0]),
        1,
        reduction,  # type: ignore[arg-type]  # one of the three
        0.1,
    )
    assert_allclose(cell(LOGITS, LABELS).asnumpy(), wanted.asnumpy())


def test_cross_entropy_loss_of_even_logits_is_log_classes() -> None:
    loss = nn.CrossEntropyLoss()(LOGITS * 0.0, LABELS)
    assert_allclose(float(loss), np.log(3.0), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss_is_the_operator(reduction: str) -> None:
    cell = nn.MSELoss(reduction)  # type: ignore[arg-type]  # one of the three
    wanted = mse_loss(LOGITS, LOGITS * 2.0, reduction)  # type: ignore[arg-type]
    assert_allclose(cell(LOGITS, LOGITS * 2.0).asnumpy(), wanted.asnumpy())


@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, nn.MSELoss])
def test_an_unknown_reduction_is_refused(kind: type[nn.MSELoss]) -> None:
    with pytest.raises(ValueError, match="reduction"):
        kind(reduction="average")  # type: ignore[arg-type]  # the point
    with pytest.raises(ValueError, match="label_smoothing"):
        nn.CrossEntropyLoss(label_smoothing=1.5)


def test_tied_weights_gather_both_gradients() -> None:
    class Tied(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Dense(2, 2, "ones", has_bias=False)
            self.second = nn.Dense(2, 2, "ones", has_bias=False)
            self.second.weight = self.first.weight

        def construct(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(self.first(x)).sum()
            return out

    net = Tied()
    assert len(net.trainable_params()) == 1
    _, gradient = value_and_grad(net, None, net.first.weight)(Tensor([[1.0, 1.0]]))
    assert isinstance(gradient, Tensor)
    assert gradient.tolist() == [[4.0, 4.0], [4.0, 4.0]]


def test_optimizers_are_found_in_nn() -> None:
    for name in ("SGD", "Momentum", "Adam", "AdamWeightDecay", "AdamW", "Optimizer"):
        assert name in nn.__all__
    with pytest.raises(AttributeError, match="Nothing"):
        _ = nn.Nothing
