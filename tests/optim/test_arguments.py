"""What an optimizer takes and what it refuses: the rows of MindSpore's tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_parameters import ones, parameter, parameters

from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.optim import SGD, Adam, AdamW, AdamWeightDecay, Momentum, Optimizer
from parallel_params.tensor.dtype import int32
from parallel_params.tensor.tensor import Tensor


def is_trained(parameter: Parameter) -> bool:
    return parameter.requires_grad


TAKEN: dict[str, Callable[[list[Parameter]], object]] = {
    "list": list,
    "tuple": tuple,
    "ParameterTuple": ParameterTuple,
    "iterator": iter,
    "generator": lambda params: (p for p in params),
    "filter": lambda params: filter(is_trained, params),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_parameters_are_taken_from_any_iterable(kind: str) -> None:
    params = parameters()
    optimizer = SGD(TAKEN[kind](params))
    assert [id(p) for p in optimizer.parameters] == [id(p) for p in params]
    assert isinstance(optimizer.parameters, ParameterTuple)


REFUSED: dict[str, tuple[object, type[Exception], str]] = {
    "an empty list": ([], ValueError, "no parameters"),
    "a read generator": (iter([]), ValueError, "read only once"),
    "None": (None, ValueError, "not None"),
    "an int": (3, TypeError, "not a int"),
    "ints": ([1, 2], TypeError, "member 0 is a int"),
    "text": ("ab", TypeError, "not a str"),
    "tensors": ([Tensor([1.0])], TypeError, "member 0 is a Tensor"),
    "one parameter": (parameter(), TypeError, "not a Parameter"),
    "a bare group": ({"params": parameters()}, TypeError, "not a dict"),
    "a name twice": ([parameter("v"), parameter("v")], ValueError, "already exists"),
    "one twice": ([parameter("v")] * 2, ValueError, "'v' twice"),
    "ints to train": (
        [Parameter(Tensor([1], int32), name="i")],
        TypeError,
        "'i' holds Int32",
    ),
    "group and parameter": (
        [{"params": parameters()}, parameter("v")],
        TypeError,
        "member 1 is a Parameter among dicts",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_things_than_parameters_are_refused(kind: str) -> None:
    params, error, text = REFUSED[kind]
    with pytest.raises(error, match=text):
        SGD(params)


def test_frozen_parameters_are_moved_whenever_they_were_frozen() -> None:
    frozen = Parameter(Tensor([1.0, 2.0]), name="f", requires_grad=False)
    later = parameter("l")
    optimizer = SGD([frozen, later], 0.5)
    later.requires_grad = False
    optimizer(ones([frozen, later]))
    for p in (frozen, later):
        np.testing.assert_array_equal(p.asnumpy(), [0.5, 1.5])


RATES: dict[str, tuple[object, list[float]]] = {
    "float": (0.25, [0.25] * 3),
    "int": (2, [2.0] * 3),
    "True": (True, [1.0] * 3),
    "0-d tensor": (Tensor(0.25), [0.25] * 3),
    "list": ([0.5, 0.25, 0.125], [0.5, 0.25, 0.125]),
    "tuple": ((0.5, 0.25, 0.125), [0.5, 0.25, 0.125]),
    "1-d tensor": (Tensor([0.5, 0.25, 0.125]), [0.5, 0.25, 0.125]),
    "function": (lambda step: 1 / (1 + step), [1.0, 0.5, 1 / 3]),
}


@pytest.mark.parametrize("kind", RATES)
def test_a_learning_rate_is_a_number_or_depends_on_the_step(kind: str) -> None:
    rate, want = RATES[kind]
    optimizer = SGD(parameters(), rate)  # type: ignore[arg-type]  # every kind of rate
    assert [optimizer.rates(step) for step in range(3)] == [(value,) for value in want]


BAD_RATES: dict[str, tuple[object, type[Exception], str]] = {
    "negative": (-0.1, ValueError, "learning_rate must be 0 or more.*-0.1"),
    "text": ("x", ValueError, "learning_rate must be a number.*'x'"),
    "None": (None, TypeError, "learning_rate must be a number.*None"),
    "a dict": ({}, TypeError, "learning_rate"),
    "nan": (float("nan"), ValueError, "nan"),
    "infinite": (float("inf"), ValueError, "inf"),
    "negative in a list": ([0.1, -0.1], ValueError, "-0.1"),
    "text in a list": ([0.1, "x"], TypeError, "'x'"),
    "negative tensor": (Tensor(-1.0), ValueError, "-1.0"),
    "2-d tensor": (Tensor([[0.1]]), ValueError, r"shape \(1, 1\)"),
}


@pytest.mark.parametrize("kind", BAD_RATES)
def test_no_learning_rate_is_made_of(kind: str) -> None:
    rate, error, text = BAD_RATES[kind]
    with pytest.raises(error, match=text):
        SGD(parameters(), rate)  # type: ignore[arg-type]  # that is the point


# Any: the point is that these are of the wrong type.
Bad = tuple[Callable[..., Optimizer], dict[str, Any], type[Exception], str]

BAD_NUMBERS: dict[str, Bad] = {
    "decay < 0": (SGD, {"weight_decay": -0.1}, ValueError, r"weight_decay.*-0.1"),
    "decay text": (SGD, {"weight_decay": "x"}, TypeError, r"weight_decay.*'x'"),
    "decay nan": (Adam, {"weight_decay": float("nan")}, ValueError, r"finite"),
    "AdamW decay < 0": (AdamW, {"weight_decay": -1.0}, ValueError, r"-1.0"),
    "scale 0": (SGD, {"loss_scale": 0.0}, ValueError, r"loss_scale.*0.0"),
    "scale < 0": (Adam, {"loss_scale": -1.0}, ValueError, r"loss_scale.*-1.0"),
    "scale text": (SGD, {"loss_scale": "x"}, TypeError, r"loss_scale.*'x'"),
    "momentum < 0": (SGD, {"momentum": -0.1}, ValueError, r"momentum.*-0.1"),
    "momentum text": (SGD, {"momentum": "x"}, TypeError, r"momentum.*'x'"),
    "momentum bool": (SGD, {"momentum": True}, TypeError, r"momentum.*True"),
    "Momentum < 0": (
        Momentum,
        {"learning_rate": 0.1, "momentum": -0.1},
        ValueError,
        r"momentum.*-0.1",
    ),
    "dampening < 0": (SGD, {"dampening": -1.0}, ValueError, r"dampening.*-1.0"),
    "nesterov 1": (SGD, {"nesterov": 1}, TypeError, r"nesterov.*1"),
    "nesterov alone": (SGD, {"nesterov": True}, ValueError, r"nesterov needs"),
    "nesterov dampened": (
        SGD,
        {"momentum": 0.9, "dampening": 0.1, "nesterov": True},
        ValueError,
        r"no dampening",
    ),
    "use_nesterov 1": (
        Momentum,
        {"learning_rate": 0.1, "momentum": 0.9, "use_nesterov": 1},
        TypeError,
        r"use_nesterov.*1",
    ),
    "beta1 0": (Adam, {"beta1": 0.0}, ValueError, r"beta1.*0.0"),
    "beta1 1": (Adam, {"beta1": 1.0}, ValueError, r"beta1.*1.0"),
    "beta2 > 1": (AdamWeightDecay, {"beta2": 1.5}, ValueError, r"beta2.*1.5"),
    "beta2 < 0": (AdamW, {"beta2": -0.5}, ValueError, r"beta2.*-0.5"),
    "beta1 int": (Adam, {"beta1": 1}, TypeError, r"beta1 must be a float.*1"),
    "eps int": (Adam, {"eps": 1}, TypeError, r"eps must be a float.*1"),
    "eps int too": (AdamWeightDecay, {"eps": 1}, TypeError, r"eps"),
    "eps 0": (AdamW, {"eps": 0.0}, ValueError, r"eps.*0.0"),
    "use_locking 0": (Adam, {"use_locking": 0}, TypeError, r"use_locking.*0"),
    "Adam use_nesterov": (Adam, {"use_nesterov": 0}, TypeError, r"use_nesterov"),
}


@pytest.mark.parametrize("kind", BAD_NUMBERS)
def test_numbers_out_of_range_are_refused(kind: str) -> None:
    make, arguments, error, text = BAD_NUMBERS[kind]
    with pytest.raises(error, match=text):
        make(params=parameters(), **arguments)


def test_ints_are_taken_for_weight_decay_momentum_and_loss_scale() -> None:
    optimizer = SGD(parameters(), 1, momentum=1, weight_decay=0, loss_scale=2)
    assert optimizer.loss_scale == 2.0
    assert optimizer.settings(0).weight_decay == 0.0
