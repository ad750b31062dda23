"""The models a job can name, with first weights that are functions of its seed.

Knows nothing of ranks: every rank builds the same.
"""

import itertools
import math

from parallel_params import nn
from parallel_params.tensor import random
from parallel_params.train.config.job import MlpModel

# He's law halves what ReLU and its kin lose; the others keep Glorot's.
_FIRST_WEIGHTS = {
    "relu": "he_normal",
    "gelu": "he_normal",
    "tanh": "xavier_normal",
    "sigmoid": "xavier_normal",
}


def build_model(
    model: MlpModel, *, sample_shape: tuple[int, ...], num_classes: int, seed: int
) -> nn.SequentialCell:
    """Build the model of a job: flat samples in, one score per class out.

    Args:
        model: the job's [model] table.
        sample_shape: of one sample; its elements are the inputs.
        num_classes: scores per sample.
        seed: decides the first weights, and nothing else does.
    """
    random.set_seed(seed)
    widths = (math.prod(sample_shape), *model.hidden, num_classes)
    law = _FIRST_WEIGHTS[model.activation]
    cells: list[nn.Cell] = [] if len(sample_shape) == 1 else [nn.Flatten()]
    cells += [
        # Inside the layer, where linear map and activation are one operator.
        nn.Dense(fan_in, fan_out, law, "zeros", activation=model.activation)
        for fan_in, fan_out in itertools.pairwise(widths[:-1])
    ]
    return nn.SequentialCell([*cells, nn.Dense(widths[-2], num_classes, law, "zeros")])


def describe_model(
    model: MlpModel, *, sample_shape: tuple[int, ...], num_classes: int
) -> str:
    """Write a model in a word and its widths: mlp 64-128-10."""
    widths = (math.prod(sample_shape), *model.hidden, num_classes)
    return f"{model.kind} {'-'.join(str(width) for width in widths)}"
