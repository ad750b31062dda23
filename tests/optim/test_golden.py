"""MindSpore's trajectories: two parameters, two gradients, a few steps."""

from collections.abc import Callable

import numpy as np
import pytest
from small_parameters import parameters

from parallel_params import nn
from parallel_params.nn.parameter import Parameter
from parallel_params.optim import SGD, Adam, AdamWeightDecay, Momentum, Optimizer
from parallel_params.tensor.tensor import Tensor

# MindSpore forms 1 - beta2 in float32, 1.3e-5 off 0.001, and the powers of beta too; so
# weights that Adam has moved by 1 differ by up to 1e-5. The rest is exact to the digits
# given.
ADAM = 1e-5
SHOWN = 1e-6

Make = Callable[[list[Parameter]], Optimizer]

GOLDEN: dict[str, tuple[Make, int, tuple[float, float], tuple[float, float]]] = {
    "SGD": (lambda p: SGD(p, 0.1), 1, (0.9, 1.8), (0.7, 1.6)),
    "SGD momentum": (
        lambda p: SGD(p, 0.1, momentum=0.9),
        3,
        (0.439, 0.878),
        (-0.683, -0.244),
    ),
    "Momentum": (lambda p: Momentum(p, 0.1, 0.9), 3, (0.439, 0.878), (-0.683, -0.244)),
    "SGD nesterov": (
        lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True),
        3,
        (0.1951, 0.3902),
        (-1.4147, -1.2196),
    ),
    "SGD dampening, first step undampened": (
        lambda p: SGD(p, 0.1, momentum=0.9, dampening=0.5),
        3,
        (0.584, 1.168),
        (-0.248, 0.336),
    ),
    "SGD weight decay": (
        lambda p: SGD(p, 0.1, weight_decay=0.1),
        1,
        (0.89, 1.78),
        (0.69, 1.58),
    ),
    "SGD loss scale": (
        lambda p: SGD(p, 0.1, loss_scale=2.0),
        1,
        (0.95, 1.9),
        (0.85, 1.8),
    ),
    "Momentum weight decay": (
        lambda p: Momentum(p, 0.1, 0.9, weight_decay=0.1),
        2,
        (0.6821, 1.3642),
        (0.1041, 0.7862),
    ),
    "Adam": (lambda p: Adam(p, 0.1), 3, (0.700001, 1.700001), (0.700001, 1.700001)),
    "Adam weight decay in the gradient": (
        lambda p: Adam(p, 0.1, weight_decay=0.1),
        3,
        (0.700092, 1.700046),
        (0.700032, 1.700024),
    ),
    "AdamWeightDecay": (
        lambda p: AdamWeightDecay(p, 0.1, weight_decay=0.1),
        3,
        (-0.255349, 0.714936),
        (-0.255368, 0.714929),
    ),
}


def run(make: Make, num_steps: int) -> list[Parameter]:
    params = parameters()
    gradients = tuple(
        Tensor(np.array(values, np.float32)) for values in ([1, 2], [3, 4])
    )
    optimizer = make(params)
    for _ in range(num_steps):
        optimizer(gradients)
    return params


@pytest.mark.parametrize("name", GOLDEN)
def test_weights_move_as_in_mindspore(name: str) -> None:
    make, num_steps, want_a, want_b = GOLDEN[name]
    a, b = run(make, num_steps)
    tolerance = ADAM if "Adam" in name else SHOWN
    np.testing.assert_allclose(a.asnumpy(), want_a, rtol=0, atol=tolerance)
    np.testing.assert_allclose(b.asnumpy(), want_b, rtol=0, atol=tolerance)


def test_nesterov_of_momentum_changes_nothing_and_says_so() -> None:
    with pytest.warns(UserWarning, match="use_nesterov=True.* changes nothing"):
        moved = run(lambda p: Momentum(p, 0.1, 0.9, use_nesterov=True), 3)
    plain = run(lambda p: Momentum(p, 0.1, 0.9), 3)
    for got, want in zip(moved, plain, strict=True):
        np.testing.assert_array_equal(got.asnumpy(), want.asnumpy())


@pytest.mark.parametrize("loss_scale", [1.0, 1024.0])
def test_a_loss_scale_leaves_the_weight_decay_alone(loss_scale: float) -> None:
    a, _ = run(lambda p: Momentum(p, 0.1, 0.9, 0.1, loss_scale), 1)
    want = 1 - 0.1 * (1 / loss_scale + 0.1)
    np.testing.assert_allclose(a.asnumpy()[0], want, rtol=SHOWN)


def test_one_step_cell_trains_as_in_mindspore() -> None:
    net = nn.Dense(2, 1, "ones", "zeros")
    optimizer = SGD(net.trainable_params(), 0.1)
    train = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), optimizer)
    x, y = Tensor(np.ones((2, 2), np.float32)), Tensor(np.zeros((2, 1), np.float32))

    losses = [float(train(x, y)) for _ in range(3)]

    np.testing.assert_allclose(losses, [4.0, 0.64, 0.1024], rtol=SHOWN)
    np.testing.assert_allclose(net.weight.asnumpy(), [[0.376, 0.376]], rtol=SHOWN)
    assert net.bias is not None
    np.testing.assert_allclose(net.bias.asnumpy(), [-0.624], rtol=SHOWN)
    assert optimizer.num_steps == 3
