"""Stacks of dense layers."""

import itertools
import math

from parallel_params import nn
from parallel_params.errors import ConfigError
from parallel_params.train.config.models import MlpModel
from parallel_params.train.data.dataset import Interface

# He's law halves what ReLU and its kin lose; the others keep Glorot's.
FIRST_WEIGHTS = {
    "relu": "he_normal",
    "gelu": "he_normal",
    "tanh": "xavier_normal",
    "sigmoid": "xavier_normal",
}


def build_mlp(model: MlpModel, interface: Interface) -> nn.SequentialCell:
    """Build a stack of dense layers: flat samples in, one number per output out.

    Raises:
        ConfigError: the samples are words.
    """
    if interface.is_text:
        problem = 'model.kind: "mlp" takes numbers, and the data are words; use "gpt"'
        raise ConfigError([problem])
    widths = _widths(model, interface)
    law = FIRST_WEIGHTS[model.activation]
    cells: list[nn.Cell] = []
    if len(interface.sample_shape) > 1:
        cells.append(nn.Flatten())
    cells += [
        # Inside the layer, where linear map and activation are one operator.
        nn.Dense(fan_in, fan_out, law, "zeros", activation=model.activation)
        for fan_in, fan_out in itertools.pairwise(widths[:-1])
    ]
    return nn.SequentialCell([*cells, nn.Dense(widths[-2], widths[-1], law, "zeros")])


def describe_mlp(model: MlpModel, interface: Interface) -> str:
    """Write it in a word and its widths: mlp 64-128-10."""
    widths = _widths(model, interface)
    return f"{model.kind} {'-'.join(str(width) for width in widths)}"


def _widths(model: MlpModel, interface: Interface) -> tuple[int, ...]:
    inputs = math.prod(interface.sample_shape)
    return (inputs, *model.hidden, interface.num_outputs)
