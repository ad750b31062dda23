"""`torch.optim` as an oracle, in float64, where torch is installed."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from parallel_params.nn.parameter import Parameter
from parallel_params.optim import (
    SGD,
    Adadelta,
    AdaFactor,
    Adagrad,
    Adam,
    AdaMax,
    AdamW,
    Momentum,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RmsPropRule,
    Rprop,
)
from parallel_params.tensor.tensor import Tensor

torch = pytest.importorskip("torch")

# The first optimizer made by torch imports its compiler, which takes seconds.
pytestmark = pytest.mark.slow

NUM_STEPS = 50
# Fifty steps, each a few roundings away from torch's order of operations.
REORDERED = 1e-12
# torch corrects the bias of eps in Adam, MindSpore does not; so without eps they agree.
NO_EPS = 1e-30

CASES: dict[str, tuple[Callable[..., Optimizer], str, dict[str, object]]] = {
    "SGD": (lambda p: SGD(p, 0.1), "SGD", {"lr": 0.1}),
    "SGD decay": (
        lambda p: SGD(p, 0.1, weight_decay=0.2),
        "SGD",
        {"lr": 0.1, "weight_decay": 0.2},
    ),
    "SGD momentum, dampening, decay": (
        lambda p: SGD(p, 0.1, 0.9, 0.3, 0.2),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.2},
    ),
    "SGD nesterov, decay": (
        lambda p: SGD(p, 0.1, 0.9, weight_decay=0.2, nesterov=True),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2},
    ),
    "Momentum": (
        lambda p: Momentum(p, 0.1, 0.8, weight_decay=0.2),
        "SGD",
        {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.2},
    ),
    "Adam": (lambda p: Adam(p, 0.01, eps=NO_EPS), "Adam", {"lr": 0.01, "eps": NO_EPS}),
    "Adam decay": (
        lambda p: Adam(p, 0.01, 0.8, 0.99, NO_EPS, weight_decay=0.2),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": NO_EPS, "weight_decay": 0.2},
    ),
    "AdamW": (lambda p: AdamW(p, 0.01), "AdamW", {"lr": 0.01, "weight_decay": 0.01}),
    "AdamW decay, betas, eps": (
        lambda p: AdamW(p, 0.01, 0.8, 0.99, 0.1, 0.3),
        "AdamW",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 0.1, "weight_decay": 0.3},
    ),
}

# torch has the decay of Adafactor by the learning rate alone, and MindSpore by that of
# the step; so without decay they agree. The bound on rates is torch's default there.
MATRICES_ONLY: dict[str, tuple[Callable[..., Optimizer], str, dict[str, object]]] = {
    "Muon": (Muon, "Muon", {}),
    "Muon without Nesterov": (
        lambda p: Muon(p, 0.1, 0.2, 0.8, nesterov=False, ns_steps=3),
        "Muon",
        {
            "lr": 0.1,
            "weight_decay": 0.2,
            "momentum": 0.8,
            "nesterov": False,
            "ns_steps": 3,
        },
    ),
    "Muon with Adam's rates": (
        lambda p: Muon(p, 0.1, adjust_lr_fn="match_rms_adamw"),
        "Muon",
        {"lr": 0.1, "adjust_lr_fn": "match_rms_adamw"},
    ),
}
CASES |= {
    "Adafactor": (lambda p: AdaFactor(p, beta1=None), "Adafactor", {}),
    "Adafactor decay rate, eps, threshold": (
        lambda p: AdaFactor(p, None, (1e-30, 0.1), 1.05, 0.7, None),
        "Adafactor",
        {"eps": (None, 0.1), "d": 1.05, "beta2_decay": -0.7},
    ),
}

# MindSpore's RMSProp starts from 1 and has eps under the root; the rule can do both.
RMS = {"decay": 0.8, "eps": NO_EPS, "initial": 0.0}


def rmsprop(momentum: float, *, is_centered: bool) -> Callable[..., Optimizer]:
    rule = RmsPropRule(momentum=momentum, centered=is_centered, **RMS)
    return lambda p: Optimizer(rule, p, learning_rate=0.1, weight_decay=0.1)


RMS_THERE: dict[str, object] = {
    "lr": 0.1,
    "alpha": 0.8,
    "eps": 1e-15,
    "weight_decay": 0.1,
}
CASES |= {
    "Adagrad": (
        lambda p: Adagrad(p, 0.2, 0.1, weight_decay=0.2),
        "Adagrad",
        {"lr": 0.1, "initial_accumulator_value": 0.2, "weight_decay": 0.2},
    ),
    "Adadelta": (
        lambda p: Adadelta(p, 0.5, 0.8, 1e-3, weight_decay=0.2),
        "Adadelta",
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.2},
    ),
    "RMSprop": (rmsprop(0.0, is_centered=False), "RMSprop", RMS_THERE),
    "RMSprop momentum, centered": (
        rmsprop(0.9, is_centered=True),
        "RMSprop",
        {**RMS_THERE, "momentum": 0.9, "centered": True},
    ),
    "Rprop": (lambda p: Rprop(p, 0.1), "Rprop", {"lr": 0.1}),
    "Adamax": (
        lambda p: AdaMax(p, 0.1, 0.8, 0.99, NO_EPS, 0.2),
        "Adamax",
        {"lr": 0.1, "betas": (0.8, 0.99), "eps": NO_EPS, "weight_decay": 0.2},
    ),
    "NAdam": (
        lambda p: NAdam(p, 0.1, 0.8, 0.99, 0.1, 0.2),
        "NAdam",
        {"lr": 0.1, "betas": (0.8, 0.99), "eps": 0.1, "weight_decay": 0.2},
    ),
    "NAdam decoupled": (
        lambda p: NAdam(p, 0.1, 0.8, 0.99, 0.1, 0.2, 0.1, True),
        "NAdam",
        {
            "lr": 0.1,
            "betas": (0.8, 0.99),
            "eps": 0.1,
            "weight_decay": 0.2,
            "momentum_decay": 0.1,
            "decoupled_weight_decay": True,
        },
    ),
    "RAdam": (
        lambda p: RAdam(p, 0.1, 0.8, 0.9, 0.1, 0.2),
        "RAdam",
        {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.1, "weight_decay": 0.2},
    ),
    "RAdam decoupled": (
        lambda p: RAdam(p, 0.1, 0.8, 0.99, 0.1, 0.2, True),
        "RAdam",
        {
            "lr": 0.1,
            "betas": (0.8, 0.99),
            "eps": 0.1,
            "weight_decay": 0.2,
            "decoupled_weight_decay": True,
        },
    ),
    "AdamW amsgrad": (
        lambda p: AdamW(p, 0.1, 0.8, 0.9, 0.1, 0.2, amsgrad=True),
        "AdamW",
        {
            "lr": 0.1,
            "betas": (0.8, 0.9),
            "eps": 0.1,
            "weight_decay": 0.2,
            "amsgrad": True,
        },
    ),
    "Adam amsgrad": (
        lambda p: Adam(p, 0.1, 0.8, 0.9, NO_EPS, weight_decay=0.2, use_amsgrad=True),
        "Adam",
        {
            "lr": 0.1,
            "betas": (0.8, 0.9),
            "eps": NO_EPS,
            "weight_decay": 0.2,
            "amsgrad": True,
        },
    ),
}


@pytest.fixture(autouse=True)
def _scalars_in_float64() -> Iterator[None]:
    """Let torch keep the running product of NAdam in float64, too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", CASES)
def test_fifty_steps_are_those_of_torch(name: str) -> None:
    compare(*CASES[name], ((3, 4), (5,), ()))


@pytest.mark.parametrize("name", MATRICES_ONLY)
def test_fifty_steps_of_matrices_are_those_of_torch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch iterates in bfloat16 and this library does not; let torch do so neither.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    compare(*MATRICES_ONLY[name], ((3, 4), (5, 2), (4, 4)))


def compare(
    make: Callable[..., Optimizer],
    theirs: str,
    options: dict[str, object],
    shapes: tuple[tuple[int, ...], ...],
) -> None:
    rng = np.random.default_rng(7)
    starts = [rng.normal(size=shape) for shape in shapes]
    params = [
        Parameter(Tensor(np.array(start)), name=f"p{i}")
        for i, start in enumerate(starts)
    ]
    twins = [torch.tensor(start, requires_grad=True) for start in starts]
    optimizer, oracle = make(params), getattr(torch.optim, theirs)(twins, **options)
    for _ in range(NUM_STEPS):
        gradients = [np.asarray(rng.normal(size=start.shape)) for start in starts]
        optimizer(tuple(Tensor(gradient) for gradient in gradients))
        for twin, gradient in zip(twins, gradients, strict=True):
            twin.grad = torch.tensor(gradient)
        oracle.step()
    for param, twin in zip(params, twins, strict=True):
        want = twin.detach().numpy()
        np.testing.assert_allclose(
            param.asnumpy(), want, rtol=REORDERED, atol=REORDERED
        )
