"""The [optim] tables beside the constructors they stand for: the same defaults."""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import get_args, get_type_hints

from parallel_params import optim
from parallel_params.train.config.optim import CommonOptim, Optim
from parallel_params.train.optimizers import _CLASSES, _RENAMED

_COMMON = {field.name for field in fields(CommonOptim)}
# What a job says otherwise, and what `_make` makes of it.
OTHERWISE = {
    ("momentum", "momentum"): "is required",
    ("lars", "momentum"): "is required, of the Momentum inside",
    ("adafactor", "beta1"): "of the paper, which has no average of updates",
    ("muon", "adjust_lr"): "'original' is what None means",
    ("rprop", "eta_minus"): "one of two etas",
    ("rprop", "eta_plus"): "one of two etas",
    ("rprop", "least_step"): "one of two step_sizes",
    ("rprop", "largest_step"): "one of two step_sizes",
}


def differences() -> Iterator[tuple[str, str]]:
    """Yield optimizer and key of every default that is another one."""
    (union, *_) = get_args(Optim)
    for table in get_args(union):
        for name in get_args(get_type_hints(table)["name"]):
            made = [optim.Momentum, optim.LARS] if name == "lars" else [_CLASSES[name]]
            found = [
                parameter
                for each in made
                for parameter in inspect.signature(each).parameters.values()
            ]
            defaults = {parameter.name: parameter.default for parameter in found}
            for field in fields(table):
                if field.name in _COMMON | {"name", "others"}:
                    continue
                key = _RENAMED.get((name, field.name), field.name)
                if key not in defaults or defaults[key] != field.default:
                    yield name, field.name


def test_defaults_of_a_job_are_those_of_the_constructors() -> None:
    assert {*differences()} == {*OTHERWISE}
