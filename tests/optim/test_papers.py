"""Rules that PyTorch has not, against their papers: one expression after the other."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from parallel_params import optim
from parallel_params.errors import ManagedOptimizerError
from parallel_params.nn.parameter import Parameter
from parallel_params.optim import Optimizer
from parallel_params.tensor.tensor import Tensor

Array = NDArray[Any]
NUM_STEPS = 25
# Some dozens of steps, each a few roundings away from the order of the words here.
REORDERED = 1e-10
# The same in float32.
SINGLE = 2e-4


def gradients_of(shape: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(11)
    return [np.asarray(rng.normal(size=shape)) for _ in range(NUM_STEPS)]


def trained(
    make: Callable[[list[Parameter]], Optimizer], start: Array, dtype: type
) -> tuple[Array, Optimizer]:
    parameter = Parameter(Tensor(start.astype(dtype)), name="w")
    optimizer = make([parameter])
    for gradient in gradients_of(start.shape):
        optimizer((Tensor(gradient.astype(dtype)),))
    assert parameter.asnumpy().dtype == dtype
    return parameter.asnumpy(), optimizer


def lion(w: Array) -> Array:
    """Algorithm 2 of the paper."""
    m = np.zeros_like(w)
    for g in gradients_of(w.shape):
        c = 0.9 * m + 0.1 * g
        w = w - 0.01 * (np.sign(c) + 0.1 * w)
        m = 0.99 * m + 0.01 * g
    return w


def ftrl(w: Array) -> Array:
    """Algorithm 1 of the paper, with MindSpore's l2 and accumulator."""
    n, z = np.full_like(w, 0.1), np.zeros_like(w)
    for g in gradients_of(w.shape):
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / 0.5
        z = z + g - sigma * w
        n = n + g**2
        w = np.where(
            np.abs(z) <= 0.3,
            0,
            (np.sign(z) * 0.3 - z) / (np.sqrt(n) / 0.5 + 2 * 0.2),
        )
    return w


def schedule_free(w: Array) -> Array:
    """Algorithm 1 of the paper with warm-up; the weights where gradients are taken."""
    x, z, v, total = w, w, np.zeros_like(w), 0.0
    for t, g in enumerate(gradients_of(w.shape), start=1):
        y = 0.1 * z + 0.9 * x
        warm = min(1.0, t / 4)
        rate = 0.05 * warm
        v = 0.99 * v + 0.01 * g**2
        total += warm**2
        u = g / (np.sqrt(v / (1 - 0.99**t)) + 1e-8) + 0.1 * y
        z = z - rate * u
        x = (1 - warm**2 / total) * x + warm**2 / total * z
    return 0.1 * z + 0.9 * x


def soap(w: Array, *, is_one_sided: bool = False) -> Array:
    """Algorithm 3 of the paper, of which step 0 makes the bases.

    One-sided on a wide matrix.
    """
    m, v = np.zeros_like(w), np.zeros_like(w)
    g0, *gradients = gradients_of(w.shape)
    left, right, p = g0 @ g0.T, g0.T @ g0, np.eye(w.shape[1])
    q = np.linalg.eigh(left)[1][:, ::-1]
    p = p if is_one_sided else np.linalg.eigh(right)[1][:, ::-1]
    for t, g in enumerate(gradients, start=1):
        m = 0.95 * m + 0.05 * g
        v = 0.8 * v + 0.2 * (q.T @ g @ p) ** 2
        n = (q.T @ m @ p / (1 - 0.95**t)) / (np.sqrt(v / (1 - 0.8**t)) + 1e-8)
        w = w - 0.02 * (q @ n @ p.T + 0.1 * w)
        left, right = 0.9 * left + 0.1 * g @ g.T, 0.9 * right + 0.1 * g.T @ g
        if t % 3 == 0:
            q = np.linalg.qr(left @ q)[0]
            p = p if is_one_sided else np.linalg.qr(right @ p)[0]
    return w


CASES: dict[
    str, tuple[Callable[[list[Parameter]], Optimizer], Callable[[Array], Array]]
]
CASES = {
    "Lion": (lambda p: optim.Lion(p, 0.01, weight_decay=0.1), lion),
    "FTRL": (lambda p: optim.FTRL(p, 0.1, 0.5, l1=0.3, l2=0.2), ftrl),
    "ScheduleFreeAdamW": (
        lambda p: optim.ScheduleFreeAdamW(
            p, 0.05, beta2=0.99, weight_decay=0.1, warmup_steps=4
        ),
        schedule_free,
    ),
    "SOAP": (
        lambda p: optim.SOAP(
            p, 0.02, 0.95, 0.8, 1e-8, 0.1, 0.9, precondition_frequency=3
        ),
        soap,
    ),
    "SOAP, one-sided": (
        lambda p: optim.SOAP(
            p, 0.02, 0.95, 0.8, 1e-8, 0.1, 0.9, precondition_frequency=3, one_sided=True
        ),
        lambda w: soap(w, is_one_sided=True),
    ),
    "SOAP, whose longer side is too long": (
        lambda p: optim.SOAP(
            p, 0.02, 0.95, 0.8, 1e-8, 0.1, 0.9, precondition_frequency=3, max_side=4
        ),
        lambda w: soap(w, is_one_sided=True),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_move_as_in_the_paper(name: str) -> None:
    make, words = CASES[name]
    start = np.random.default_rng(5).normal(size=(3, 5))
    got, _ = trained(make, start, np.float64)
    np.testing.assert_allclose(got, words(start), rtol=REORDERED, atol=REORDERED)


@pytest.mark.parametrize("name", CASES)
def test_weights_of_float32_move_to_about_the_same_place(name: str) -> None:
    make, words = CASES[name]
    # A longer side has axes that the first gradient does not fix.
    shape = (3, 3) if name == "SOAP" else (3, 5)
    start = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    got, _ = trained(make, start, np.float32)
    want = words(start.astype(np.float64))
    np.testing.assert_allclose(got, want, rtol=SINGLE, atol=SINGLE)


def test_a_tall_matrix_moves_as_the_wide_one_that_it_is_turned() -> None:
    start = np.random.default_rng(5).normal(size=(3, 5))
    parameters = [
        Parameter(Tensor(np.ascontiguousarray(values)), name=name)
        for name, values in {"wide": start, "tall": start.T}.items()
    ]
    optimizer = optim.SOAP(parameters, 0.02, precondition_frequency=2)
    for gradient in gradients_of((3, 5)):
        turned = np.ascontiguousarray(gradient.T)
        optimizer((Tensor(gradient), Tensor(turned)))
    wide, tall = (p.asnumpy() for p in parameters)
    np.testing.assert_allclose(tall.T, wide, rtol=REORDERED, atol=REORDERED)


@pytest.mark.parametrize("shape", [(6, 3), (2, 7), (4, 4), (1, 5)])
def test_both_bases_of_soap_stay_orthogonal(shape: tuple[int, int]) -> None:
    _, optimizer = trained(
        lambda p: optim.SOAP(p, precondition_frequency=2), np.ones(shape), np.float64
    )
    state = optimizer.state_of(0)
    for side, length in zip(("left", "right"), shape, strict=True):
        names = [name for name in state if name.startswith(f"basis_{side}")]
        flat = np.concatenate([state[name].asnumpy().reshape(-1) for name in names])
        assert len(flat) < length * length + math.prod(shape)
        basis = flat[: length * length].reshape(length, length)
        np.testing.assert_allclose(basis.T @ basis, np.eye(length), atol=REORDERED)


@pytest.mark.parametrize(
    ("shape", "wishes", "sides"),
    [
        ((3, 48), {}, "left right"),
        ((3, 49), {}, "left"),
        ((49, 3), {}, "right"),
        ((3, 5), {"max_side": 4}, "left"),
        ((3, 5), {"max_side": 2}, ""),
        ((5, 3), {"one_sided": True}, "right"),
        ((3, 3), {"one_sided": True}, "left"),
    ],
)
def test_a_side_that_is_too_long_has_no_basis(
    shape: tuple[int, int], wishes: Any, sides: str
) -> None:
    optimizer = optim.SOAP([Parameter(Tensor(np.ones(shape)), name="w")], **wishes)
    names = optimizer.slots(0).names
    found = [side for side in ("left", "right") if f"basis_{side}" in names]
    assert found == sides.split()


def test_soap_of_gradients_that_are_no_numbers_raises_nothing() -> None:
    parameter = Parameter(Tensor(np.ones((2, 3))), name="w")
    optimizer = optim.SOAP([parameter], precondition_frequency=1)
    for _ in range(2):
        optimizer((Tensor(np.full((2, 3), np.nan)),))
    assert np.isnan(parameter.asnumpy()).all()


def test_weights_to_evaluate_with_are_the_average_of_the_paper() -> None:
    start = np.random.default_rng(5).normal(size=7)
    y, optimizer = trained(lambda p: optim.ScheduleFreeAdamW(p), start, np.float64)
    z = optimizer.state_of(0)["z"].asnumpy()
    before = y.tobytes()
    with optimizer.evaluation():
        np.testing.assert_allclose(y, (y_of(before) - 0.1 * z) / 0.9, rtol=REORDERED)
    assert y.tobytes() == before


def y_of(text: bytes) -> Array:
    return np.frombuffer(text, np.float64)


@pytest.mark.parametrize(
    ("decay", "start", "want"),
    [
        (0.5, 0, [-1, -1.5, -2.25, -3.125]),
        (0.5, 2, [-1, -2, -3, -3.5]),
        (None, 0, [-1, -1.5, -2, -2.5]),
        (None, 2, [-1, -2, -3, -3.5]),
    ],
)
def test_an_average_follows_the_weights(
    decay: float | None, start: int, want: list[float]
) -> None:
    parameter = Parameter(Tensor(np.zeros(1)), name="w")
    ema = optim.EMA(optim.SGD([parameter], 1.0), decay, start)
    averages = []
    for _ in want:
        ema((Tensor(np.ones(1)),))
        averages.append(ema.state_of(0)["average_weight"].item())
    np.testing.assert_allclose(averages, want, rtol=1e-12)


def test_an_average_that_begins_late_begins_with_the_weights() -> None:
    parameter = Parameter(Tensor(np.zeros(1)), name="w")
    inner = optim.SGD([parameter], 1.0)
    inner((Tensor(np.ones(1)),))
    ema = optim.EMA(inner, 0.5)
    ema((Tensor(np.ones(1)),))
    assert ema.state_of(0)["average_weight"].item() == -1.5
    with pytest.raises(ManagedOptimizerError, match="a EMA has adopted it"):
        inner((Tensor(np.ones(1)),))


def test_the_average_moves_no_bit_of_the_weights() -> None:
    start = np.random.default_rng(5).normal(size=(3, 5))
    for make in (optim.AdamW, optim.Lamb, optim.Muon):
        plain, _ = trained(lambda p, m=make: m(p, 0.01), start, np.float32)  # type: ignore[misc]  # bound now
        beside, _ = trained(
            lambda p, m=make: optim.EMA(m(p, 0.01)),  # type: ignore[misc]  # as above
            start,
            np.float32,
        )
        assert plain.tobytes() == beside.tobytes()


def test_rprop_stays_where_a_sign_has_changed_and_forgets_it() -> None:
    parameter = Parameter(Tensor(np.zeros(1)), name="w")
    rprop = optim.Rprop([parameter], 1.0)
    places = []
    for gradient in (1.0, -1.0, -1.0, -1e-30, -1e-30):
        rprop((Tensor(np.array([gradient])),))
        places.append(parameter.item())
    np.testing.assert_allclose(places, [-1.0, -1.0, -0.5, 0.1, 0.82])
