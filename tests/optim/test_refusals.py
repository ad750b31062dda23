"""What the optimizers refuse: name, value and range in the sentence."""

from collections.abc import Callable

import pytest
from small_parameters import parameter

from parallel_params import nn, optim
from parallel_params.optim import Optimizer

P = [parameter("w")]

REFUSED: dict[str, tuple[Callable[[], Optimizer], type[Exception], str]] = {
    "Adagrad accum": (
        lambda: optim.Adagrad(P, -0.1),
        ValueError,
        "accum must be 0 or more, not -0.1",
    ),
    "Adagrad accum int": (
        lambda: optim.Adagrad(P, 1),
        TypeError,
        "accum must be a float, not 1",
    ),
    "Adagrad update_slots": (
        lambda: optim.Adagrad(P, update_slots=1),  # type: ignore[arg-type]  # refused
        TypeError,
        "update_slots must be True or False",
    ),
    "Adadelta rho": (
        lambda: optim.Adadelta(P, rho=1.5),
        ValueError,
        "rho must lie from 0 to 1, not 1.5",
    ),
    "Adadelta epsilon": (
        lambda: optim.Adadelta(P, epsilon=0.0),
        ValueError,
        "epsilon must be more than 0",
    ),
    "RMSProp decay": (
        lambda: optim.RMSProp(P, decay=-0.1),
        ValueError,
        "decay must lie from 0 to 1",
    ),
    "RMSProp momentum": (
        lambda: optim.RMSProp(P, momentum=-1.0),
        ValueError,
        "momentum must be 0 or more",
    ),
    "RMSProp centered": (
        lambda: optim.RMSProp(P, centered=1),  # type: ignore[arg-type]  # refused
        TypeError,
        "centered must be True or False",
    ),
    "Rprop etas": (
        lambda: optim.Rprop(P, etas=(1.1, 1.2)),
        ValueError,
        r"etas must lie on both sides of 1, not \(1.1, 1.2\)",
    ),
    "Rprop etas length": (
        lambda: optim.Rprop(P, etas=(0.5,)),
        ValueError,
        "etas must be two floats",
    ),
    "Rprop step_sizes": (
        lambda: optim.Rprop(P, step_sizes=(2.0, 1.0)),
        ValueError,
        "step_sizes must be ascending",
    ),
    "FTRL lr_power": (
        lambda: optim.FTRL(P, lr_power=0.5),
        ValueError,
        "lr_power must be 0 or less, not 0.5",
    ),
    "FTRL l1": (lambda: optim.FTRL(P, l1=-1.0), ValueError, "l1 must be 0 or more"),
    "AdaMax beta2": (
        lambda: optim.AdaMax(P, beta2=1.0),
        ValueError,
        "beta2 must lie between 0 and 1",
    ),
    "NAdam momentum_decay": (
        lambda: optim.NAdam(P, momentum_decay=-1.0),
        ValueError,
        "momentum_decay must be 0 or more",
    ),
    "RAdam flag": (
        lambda: optim.RAdam(P, decoupled_weight_decay=1),  # type: ignore[arg-type]  # refused
        TypeError,
        "decoupled_weight_decay must be True or False",
    ),
    "Adam with both": (
        lambda: optim.Adam(P, use_nesterov=True, use_amsgrad=True),
        ValueError,
        "use_nesterov or use_amsgrad, not both",
    ),
    "Lion beta1": (lambda: optim.Lion(P, beta1=1), TypeError, "beta1 must be a float"),
    "ScheduleFreeAdamW warmup": (
        lambda: optim.ScheduleFreeAdamW(P, warmup_steps=-1),
        ValueError,
        "warmup_steps must be 0 or more, not -1",
    ),
    "SOAP of a vector": (
        lambda: optim.SOAP(P),
        ValueError,
        r"SOAP moves matrices, and parameter 'w' has the shape \(2,\); give all",
    ),
    "SOAP frequency": (
        lambda: optim.SOAP(P, precondition_frequency=0),
        ValueError,
        "precondition_frequency must be 1 or more, not 0",
    ),
    "SOAP frequency type": (
        lambda: optim.SOAP(P, precondition_frequency=2.5),  # type: ignore[arg-type]  # refused
        TypeError,
        "precondition_frequency must be a whole number, not 2.5",
    ),
    "EMA of parameters": (
        lambda: optim.EMA(P),  # type: ignore[arg-type]  # refused
        TypeError,
        "EMA takes an optimizer, not a list; build that first",
    ),
    "EMA decay": (
        lambda: optim.EMA(optim.SGD(P), 1.0),
        ValueError,
        "decay must lie between 0 and 1",
    ),
    "EMA start": (
        lambda: optim.EMA(optim.SGD(P), start=-1),
        ValueError,
        "start must be 0 or more",
    ),
    "LARS of EMA": (
        lambda: optim.LARS(optim.EMA(optim.SGD(P))),
        TypeError,
        r"LARS cannot wrap EMA, .* wrap LARS instead, as in EMA\(LARS\(...\)\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_out_of_its_range_is_refused(name: str) -> None:
    make, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        make()


def test_ema_of_lars_keeps_what_lars_leaves_out() -> None:
    params = [parameter("weight"), parameter("bias")]
    ema = optim.EMA(optim.LARS(optim.SGD(params)))
    assert [ema.settings(i).is_adapted for i in range(2)] == [True, False]


def test_nn_has_the_optimizers_too() -> None:
    for name in ("Adagrad", "RMSProp", "AdaMax", "FTRL", "Rprop", "Adadelta", "SOAP"):
        assert getattr(nn, name) is getattr(optim, name)
