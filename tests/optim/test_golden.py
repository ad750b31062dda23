"""MindSpore's trajectories: two parameters, two gradients, a few steps."""

from collections.abc import Callable

import numpy as np
import pytest
from small_parameters import parameters

from parallel_params import nn
from parallel_params.nn.parameter import Parameter
from parallel_params.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdaMax,
    AdamW,
    AdamWeightDecay,
    Momentum,
    NAdam,
    Optimizer,
    RAdam,
    RMSProp,
    Rprop,
)
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
    "Adagrad": (
        lambda p: Adagrad(p, learning_rate=0.1),
        3,
        (0.778851, 1.773458),
        (0.772407, 1.772036),
    ),
    "RMSProp": (lambda p: RMSProp(p, 0.1), 3, (0.7, 1.516435), (0.418861, 1.365425)),
}

# PyTorch 2.13 in float64, gradients [1, -2] and [3, 4], times -0.5 in the second step
# of three.
TORCH: dict[str, tuple[Make, tuple[float, float], tuple[float, float]]] = {
    "Adagrad": (
        lambda p: Adagrad(p, 0.2, 0.1, weight_decay=0.2),
        (0.863602838, 2.090283415),
        (0.871338075, 1.866748384),
    ),
    "Adadelta": (
        lambda p: Adadelta(p, 0.5, 0.8, 1e-3, weight_decay=0.2),
        (0.940585637, 2.039506061),
        (0.946558634, 1.944930772),
    ),
    "Adamax, without eps": (
        lambda p: AdaMax(p, 0.1, 0.8, 0.99, 1e-30, 0.2),
        (0.811319471, 2.133170031),
        (0.824468831, 1.820545796),
    ),
    "NAdam": (
        lambda p: NAdam(p, 0.1, 0.8, 0.99, 0.1, 0.2),
        (0.83439494, 2.109055717),
        (0.842050167, 1.835548298),
    ),
    "NAdam, decoupled": (
        lambda p: NAdam(p, 0.1, 0.8, 0.99, 0.1, 0.2, 0.1, True),
        (0.805197684, 2.024953501),
        (0.796287894, 1.736283835),
    ),
    "RAdam, not rectified": (
        lambda p: RAdam(p, 0.1, 0.8, 0.99, 0.1, 0.2),
        (0.775907104, 2.210903461),
        (0.446362477, 1.222269581),
    ),
    "AdamW, amsgrad": (
        lambda p: AdamW(p, 0.1, 0.8, 0.9, 0.1, 0.2, amsgrad=True),
        (0.782701747, 2.049023458),
        (0.771645131, 1.711344729),
    ),
    "Adam, amsgrad, without eps": (
        lambda p: Adam(p, 0.1, 0.8, 0.9, 1e-30, weight_decay=0.2, use_amsgrad=True),
        (0.789130455, 2.134056279),
        (0.808365239, 1.802287163),
    ),
    "Rprop": (lambda p: Rprop(p, 0.1), (0.85, 2.15), (0.85, 1.85)),
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


def scaled(values: list[int], factor: float, dtype: type) -> Tensor:
    return Tensor(np.array([factor * value for value in values], dtype))


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_move_as_in_pytorch(name: str, dtype: type) -> None:
    make, *wants = TORCH[name]
    params = [
        Parameter(Tensor(np.array([1.0, 2.0], dtype)), name=letter) for letter in "ab"
    ]
    optimizer = make(params)
    for factor in (1.0, -0.5, 1.0):
        for_a, for_b = ([1, -2], [3, 4])
        optimizer((scaled(for_a, factor, dtype), scaled(for_b, factor, dtype)))
    for p, want in zip(params, wants, strict=True):
        assert p.asnumpy().dtype == dtype
        tolerance = 1e-9 if dtype is np.float64 else SHOWN
        np.testing.assert_allclose(p.asnumpy(), want, rtol=0, atol=tolerance)


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
