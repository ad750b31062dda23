"""Schedules: pure, with the shape they are named after, and refused out of range."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from parallel_params import nn, optim
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.plateau import Plateau
from parallel_params.optim.schedules import (
    Chained,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSquareRoot,
    Linear,
    MultiStep,
    OneCycle,
    Polynomial,
    ScheduleLike,
    StepDecay,
    WarmUp,
    Wsd,
)
from parallel_params.tensor.tensor import Tensor

# Powers and cosines in another order.
ROUNDED = 1e-12

RATES: dict[str, tuple[ScheduleLike, list[float]]] = {
    "constant": (Constant(0.5), [0.5, 0.5]),
    "linear": (Linear(1.0, 4, 0.5), [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]),
    "polynomial": (Polynomial(1.0, 4, power=2.0), [1.0, 0.5625, 0.25, 0.0625, 0, 0]),
    "cosine": (Cosine(2.0, 4), [2.0, 1 + math.sqrt(0.5), 1.0]),
    "restarts": (CosineRestarts(2.0, 2), [2, 1, 2, 1, 2]),
    "longer restarts": (CosineRestarts(2.0, 2, 2), [2, 1, 2, 1 + math.sqrt(0.5), 1]),
    "inverse square root": (InverseSquareRoot(1.0, 1), [1.0, math.sqrt(0.5)]),
    "step": (StepDecay(1.0, 2, 0.5), [1, 1, 0.5, 0.5, 0.25]),
    "multi-step": (MultiStep(1.0, (1, 3), 0.5), [1, 0.5, 0.5, 0.25, 0.25]),
    "exponential": (Exponential(1.0, 0.25, 2), [1, 0.5, 0.25]),
    "wsd": (Wsd(1.0, 5, 2), [1, 1, 1, 1, 0.5, 0, 0]),
    "wsd, square root": (Wsd(1.0, 4, 4, 0.5, "sqrt"), [1, 0.75, 1 - math.sqrt(0.125)]),
    "warm-up": (WarmUp(Linear(1.0, 2), 4), [0.25, 0.5, 0.75, 1, 1, 0.5, 0]),
    "warm-up from half": (WarmUp(Constant(1.0), 2, 0.5), [0.75, 1.0, 1.0]),
    "no warm-up": (WarmUp(Constant(1.0), 0), [1.0]),
    "chained": (
        Chained(((Constant(1.0), 1), (Linear(2.0, 2), 2)), Constant(3.0)),
        [1, 2, 1, 3, 3],
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_a_schedule_gives_the_rates_of_its_name(name: str) -> None:
    schedule, want = RATES[name]
    got = [schedule(step) for step in range(len(want))]
    np.testing.assert_allclose(got, want, rtol=ROUNDED, atol=ROUNDED)


@pytest.mark.parametrize("name", RATES)
def test_a_schedule_is_a_value_and_forgets_its_calls(name: str) -> None:
    schedule, want = RATES[name]
    twin = pickle.loads(pickle.dumps(schedule))
    assert twin == schedule
    assert hash(twin) == hash(schedule)
    backwards = [twin(step) for step in reversed(range(len(want)))]
    assert backwards[::-1] == [schedule(step) for step in range(len(want))]


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "peak": (lambda: Constant(-1.0), "peak must be 0 or more, not -1.0"),
    "steps": (lambda: Cosine(1.0, 0), "num_steps must be 1 or more, not 0"),
    "final": (lambda: Linear(1.0, 2, 1.5), "final must lie from 0 to 1, not 1.5"),
    "power": (lambda: Polynomial(1.0, 2, power=0.0), "power must be more than 0"),
    "period": (lambda: CosineRestarts(1.0, 0), "period must be 1 or more"),
    "milestones": (
        lambda: MultiStep(1.0, (3, 2)),
        r"milestones must be ascending, not \(3, 2\)",
    ),
    "decay": (lambda: Wsd(1.0, 3, 4), "decay must be at most num_steps, 3, not 4"),
    "shape": (lambda: Wsd(1.0, 3, 1, shape="round"), "shape must be of"),  # type: ignore[arg-type]  # refused
    "rise": (lambda: OneCycle(1.0, 9, rise=2.0), "rise must lie from 0 to 1"),
    "part": (lambda: Chained(((Constant(1.0), -1),), Constant(1.0)), "steps of part 0"),
    "mode": (lambda: Plateau(1.0, mode="up"), "mode must be 'min' or 'max', not 'up'"),  # type: ignore[arg-type]  # refused
    "state": (lambda: Plateau(1.0).load_state({"best": 1.0}), "a mapping of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_number_out_of_its_range_is_refused(name: str) -> None:
    make, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        make()


def test_groups_have_schedules_of_their_own() -> None:
    params = [Parameter(Tensor(np.zeros(1)), name=name) for name in "ab"]
    sgd = optim.SGD(
        [
            {"params": params[:1], "lr": Linear(1.0, 2)},
            {"params": params[1:], "lr": Constant(0.25)},
        ]
    )
    for _ in range(3):
        sgd((Tensor(np.ones(1)), Tensor(np.ones(1))))
    assert [p.item() for p in params] == [-1.5, -0.75]


def test_a_plateau_lowers_the_rate_after_its_patience() -> None:
    plateau = Plateau(Constant(1.0), factor=0.5, patience=1, cooldown=1, least=0.2)
    rates = []
    for metric in (3.0, 2.0, 2.0, math.nan, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        plateau.observe(metric)
        rates.append(plateau(0))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]


def test_a_plateau_goes_on_from_its_state() -> None:
    metrics = [1.0, 0.9, 0.95, 0.95, 0.95, 0.96, 0.97, 0.1, 0.2, 0.3]
    plateau, resumed = (Plateau(1.0, patience=1, mode="max") for _ in range(2))
    for metric in metrics[:4]:
        plateau.observe(metric)
    resumed.load_state(plateau.state())
    for metric in metrics[4:]:
        assert plateau.observe(metric) == resumed.observe(metric)
    assert plateau.state() == resumed.state()
    assert plateau(0) == resumed(0) < 1.0


LISTS: dict[str, tuple[list[float], list[float]]] = {
    "exponential": (
        nn.exponential_decay_lr(0.1, 0.9, 6, 2, 1),
        [0.1, 0.1, 0.09, 0.09, 0.081, 0.081],
    ),
    "exponential stair": (
        nn.exponential_decay_lr(0.1, 0.5, 4, 1, 2, True),
        [0.1, 0.1, 0.05, 0.05],
    ),
    "natural": (
        nn.natural_exp_decay_lr(0.1, 0.9, 4, 2, 1),
        [0.1, 0.1, 0.1 * math.exp(-0.9), 0.1 * math.exp(-0.9)],
    ),
    "natural stair": (
        nn.natural_exp_decay_lr(0.1, 0.5, 3, 1, 2, True),
        [0.1, 0.1, 0.1 * math.exp(-1)],
    ),
    "inverse": (
        nn.inverse_decay_lr(0.1, 0.5, 6, 1, 1),
        [0.1, 0.1 / 1.5, 0.05, 0.04, 0.1 / 3, 0.1 / 3.5],
    ),
    "cosine": (
        nn.cosine_decay_lr(0.01, 0.1, 6, 2, 2),
        [0.1, 0.1, 0.055, 0.055] + [0.01] * 2,
    ),
    "polynomial": (
        nn.polynomial_decay_lr(0.1, 0.01, 6, 2, 2, 0.5),
        [0.1, 0.1] + [0.01 + 0.09 * math.sqrt(0.5)] * 2 + [0.01, 0.01],
    ),
    "polynomial updated": (
        nn.polynomial_decay_lr(0.1, 0.0, 4, 1, 2, 1.0, True),
        [0.1, 0.05, 0.0, 0.025],
    ),
    "piecewise": (
        nn.piecewise_constant_lr([2, 5, 6], [0.1, 0.05, 0.01]),
        [0.1, 0.1, 0.05, 0.05, 0.05, 0.01],
    ),
    "warm-up": (nn.warmup_lr(0.1, 6, 2, 2), [0.0, 0.0, 0.05, 0.05, 0.1, 0.1]),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_rates_are_those_of_mindspore(name: str) -> None:
    got, want = LISTS[name]
    np.testing.assert_allclose(got, want, rtol=ROUNDED, atol=ROUNDED)


CELLS: dict[str, tuple[Any, list[float]]] = {
    "exponential": (nn.ExponentialDecayLR(0.1, 0.25, 2), [0.1, 0.05, 0.025]),
    "natural": (nn.NaturalExpDecayLR(0.1, 0.9, 4), [0.1, 0.1 * math.exp(-0.9)]),
    "inverse": (nn.InverseDecayLR(0.1, 0.5, 2, True), [0.1, 0.1, 0.1 / 1.5]),
    "cosine": (nn.CosineDecayLR(0.01, 0.1, 2), [0.1, 0.055, 0.01, 0.01]),
    "polynomial": (nn.PolynomialDecayLR(0.1, 0.01, 2, 1.0), [0.1, 0.055, 0.01]),
    "warm-up": (nn.WarmUpLR(0.1, 2), [0.0, 0.05, 0.1, 0.1]),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_rates_are_those_of_mindspore(name: str) -> None:
    cell, want = CELLS[name]
    got = [float(cell(Tensor(np.array([step], np.int32)))) for step in range(len(want))]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


def test_an_optimizer_takes_a_cell_of_rates() -> None:
    w = Parameter(Tensor(np.zeros(1)), name="w")
    sgd = optim.SGD([w], nn.PolynomialDecayLR(1.0, 0.5, 2, 1.0))
    for _ in range(3):
        sgd((Tensor(np.ones(1)),))
    assert w.item() == -2.25


def test_a_schedule_of_ones_own_derives_from_the_base() -> None:
    class Own(nn.LearningRateSchedule):
        def rate(self, step: int) -> float:
            return 1.0 / (1 + step)

    assert float(Own()(Tensor(3))) == 0.25
    with pytest.raises(NotImplementedError, match="construct"):
        nn.LearningRateSchedule()(Tensor(3))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.cosine_decay_lr(0.1, 0.1, 2, 1, 1), "below max_lr, 0.1, not 0.1"),
        (lambda: nn.piecewise_constant_lr([2, 1], [0.1, 0.2]), "ascending"),
        (lambda: nn.piecewise_constant_lr([2], [0.1, 0.2]), "have 1 and 2"),
        (lambda: nn.warmup_lr(0.1, 0, 1, 1), "total_step must be 1 or more"),
        (lambda: nn.WarmUpLR(0.1, 0), "warmup_steps must be 1 or more"),
        (lambda: nn.ExponentialDecayLR(0.0, 0.9, 1), "learning_rate must be more"),
    ],
)
def test_mindspores_schedules_refuse_what_is_out_of_range(
    make: Callable[[], object], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.slow  # the first optimizer made by torch imports its compiler
@pytest.mark.parametrize(
    ("schedule", "theirs", "options"),
    [
        (OneCycle(0.5, 20), "OneCycleLR", {"max_lr": 0.5, "total_steps": 20}),
        (
            OneCycle(0.5, 11, 0.4, 10.0, 100.0),
            "OneCycleLR",
            {
                "max_lr": 0.5,
                "total_steps": 11,
                "pct_start": 0.4,
                "div_factor": 10.0,
                "final_div_factor": 100.0,
            },
        ),
        (
            CosineRestarts(0.5, 3, 2, 0.1),
            "CosineAnnealingWarmRestarts",
            {"T_0": 3, "T_mult": 2, "eta_min": 0.05},
        ),
        (MultiStep(0.5, (3, 7)), "MultiStepLR", {"milestones": [3, 7]}),
        (StepDecay(0.5, 4), "StepLR", {"step_size": 4}),
        (Exponential(0.5, 0.9), "ExponentialLR", {"gamma": 0.9}),
        (
            Polynomial(0.5, 8, power=2.0),
            "PolynomialLR",
            {"total_iters": 8, "power": 2.0},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rates_are_those_of_torch(
    schedule: ScheduleLike, theirs: str, options: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    there = getattr(torch.optim.lr_scheduler, theirs)(sgd, **options)
    for step in range(11):
        assert schedule(step) == pytest.approx(there.get_last_lr()[0], rel=1e-9)
        sgd.step()
        if step < 10:
            there.step()


@pytest.mark.slow  # as above
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_is_that_of_torch(mode: Any) -> None:
    torch = pytest.importorskip("torch")
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    there = torch.optim.lr_scheduler.ReduceLROnPlateau(
        sgd, mode, factor=0.5, patience=2, threshold=0.01, cooldown=2, min_lr=0.01
    )
    plateau = Plateau(
        1.0, factor=0.5, patience=2, threshold=0.01, mode=mode, cooldown=2, least=0.01
    )
    for metric in np.random.default_rng(3).normal(1.0, 0.1, size=60):
        there.step(metric)
        plateau.observe(metric)
        assert plateau(0) == pytest.approx(sgd.param_groups[0]["lr"])
